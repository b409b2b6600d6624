"""How a question about money is asked in an address, of whom it may be, and what is said where it
cannot be answered."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl

from gateway.finance.question import Query, ReportFault
from gateway.ingress.http.auth import Principal
from gateway.ingress.http.problems import Refusal, RequestFault, invalid, refuse
from gateway.ingress.http.request import Request

PARAMETERS_MAX = 32

Pairs = list[tuple[str, str]]


def app_seen(principal: Principal, query: Query) -> str | None:
    """The app whose money this key may see; None: every app's. Raises Refusal (403)."""
    if "report-all" in principal.scopes:
        return None
    if any(key == "app" and value != principal.app for key, value in query.filters):
        raise refuse("forbidden", "Another app's money needs the scope `report-all`.")
    return principal.app


def pairs_of(request: Request) -> Pairs:
    """The parameters in the address. Raises ReportFault."""
    text = request.query.decode("ascii", "replace")
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
    except ValueError:
        raise ReportFault(
            "", f"The address has more than {PARAMETERS_MAX} parameters: leave some out."
        ) from None


def take_out(pairs: Pairs, wanted: str, values: Sequence[str] = ()) -> tuple[Pairs, list[str]]:
    """The other parameters, and what is given of this one, each one of `values` where there are
    some. Raises ReportFault."""
    others = [pair for pair in pairs if pair[0] != wanted]
    given = [value for name, value in pairs if name == wanted]
    if values and not set(values).issuperset(given):
        detail = f"The parameter {wanted!r} is one of: {', '.join(values)}."
        raise ReportFault(wanted, detail, impossible=True)
    return others, given


def choice(pairs: Pairs, wanted: str, values: Sequence[str]) -> tuple[Pairs, str]:
    """The other parameters, and what is chosen of this one, else its first value. Raises
    ReportFault."""
    others, given = take_out(pairs, wanted)
    chosen = given or [values[0]]
    if len(chosen) > 1 or chosen[0] not in values:
        raise ReportFault(wanted, f"Give {wanted} once, as one of: {', '.join(values)}.")
    return others, chosen[0]


def refusal(fault: ReportFault) -> Refusal:
    pointer = f"/{fault.parameter}" if fault.parameter else ""
    code = "query" if fault.impossible else "invalid"
    return Refusal(invalid([RequestFault(pointer, fault.detail)], code=code))
