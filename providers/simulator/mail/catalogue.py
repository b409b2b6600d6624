"""The words of those who carry e-mail. Their ids start where no other provider has any, so that a
knob which names one means one of these; what each service calls them is its twin's."""

from __future__ import annotations

from typing import Final

import msgspec

from providers.contract import Channel
from providers.simulator.vocabulary import Catalogue, Ending, Error, State, Status

_NOTHING: Final = msgspec.Raw(b"{}")
_BASE: Final = 8_000
_WORDS: Final = ("TAKEN", "REFUSED", "DELIVERED", "BOUNCED", "EXPIRED")
NO_SUCH_ADDRESS: Final = Status(State.REJECTED, 8_404, "NO_SUCH_ADDRESS", _NOTHING)
HARD_BOUNCE: Final = Status(State.UNDELIVERED, 8_405, "HARD_BOUNCE", _NOTHING)
_STATUSES: Final = {
    each.id: each
    for each in (
        *(Status(state, _BASE + state, _WORDS[state], _NOTHING) for state in State),
        NO_SUCH_ADDRESS,
        HARD_BOUNCE,
    )
}
REFUSED: Final = _STATUSES[_BASE + State.REJECTED]
_NO_ERROR: Final = Error(0, "NO_ERROR", False, _NOTHING)
_ENDS: Final[dict[Ending, State]] = {
    "delivered": State.DELIVERED,
    "undelivered": State.UNDELIVERED,
    "expired": State.EXPIRED,
    "silent": State.EXPIRED,
    "rejected": State.REJECTED,
}


def _usual(ending: Ending, channel: Channel) -> tuple[int, int]:  # noqa: ARG001 - there is one
    return _BASE + _ENDS[ending], 0


def catalogue(provider: str, reports_max: int | None = None) -> Catalogue:
    return Catalogue(
        provider=provider,
        statuses=_STATUSES,
        errors={0: _NO_ERROR},
        accepted=_STATUSES[_BASE + State.ACCEPTED],
        enroute=_STATUSES[_BASE + State.ACCEPTED],
        delivered=_STATUSES[_BASE + State.DELIVERED],
        duplicate=Status(State.ACCEPTED, _BASE + State.ACCEPTED, "TAKEN_AGAIN", _NOTHING),
        no_route=REFUSED,
        unreachable=NO_SUCH_ADDRESS,
        no_error=_NO_ERROR,
        usual=_usual,
        seen_channels=frozenset({"email"}),
        absent=(HARD_BOUNCE.id, _NO_ERROR.id),
        reports_max=reports_max,
    )
