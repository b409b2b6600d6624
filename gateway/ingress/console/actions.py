"""What can be done in the console: each action is one call of the API, made from a form's fields.

A destructive one asks for the name of what it is done to. Pure; a form that lacks a field or the
name raises Refusal.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from gateway.ingress.console.calls import ApiCall, segment
from gateway.ingress.http.auth import Principal
from gateway.ingress.http.problems import refuse
from gateway.ingress.http.request import Request
from gateway.store.installation.api_keys import Scope

FormFields = Mapping[str, str]

TEST_CATEGORY = "transactional"


class Action(NamedTuple):
    """`confirmed` names the field whose value is to be typed again."""

    label: str
    scope: Scope
    call: Callable[[FormFields], ApiCall]
    confirmed: str = ""


class Input(msgspec.Struct, frozen=True):
    """One field of a form; with `options` one of them is chosen."""

    name: str
    label: str
    value: str = ""
    placeholder: str = ""
    options: Sequence[tuple[str, str]] = ()
    required: bool = False


class ActionForm(msgspec.Struct, frozen=True):
    """An action as it is shown. `needs`: the scope that the key lacks, else ""."""

    action: str
    label: str
    hidden: Mapping[str, str]
    inputs: Sequence[Input]
    confirm: str
    needs: str
    curl: str


def _provider(fields: FormFields, rest: str) -> str:
    return f"/v1/ops/providers/{segment(fields['name'])}/{rest}"


def _reason(fields: FormFields) -> dict[str, Any]:
    return {"reason": fields.get("reason", "")}


def _campaign(fields: FormFields, change: dict[str, Any]) -> ApiCall:
    return ApiCall("PUT", f"/v1/campaigns/{segment(fields['name'])}", change)


def _webhook(fields: FormFields, rest: str = "") -> str:
    return f"/v1/webhooks/{segment(fields['name'])}{rest}"


def _test_send(fields: FormFields) -> ApiCall:
    """One page's form with the same in it is one message, however often it is sent."""
    said = "\0".join(fields[name] for name in ("page", "to", "route", "text"))
    message = {
        "to": fields["to"],
        "category": TEST_CATEGORY,
        "route": fields["route"],
        "text": fields["text"],
        "idempotency_key": f"console-{hashlib.sha256(said.encode()).hexdigest()[:32]}",
    }
    return ApiCall("POST", "/v1/messages", message)


def _opt_out(fields: FormFields) -> str:
    return f"/v1/optouts/{segment(fields['address'])}"


ACTIONS: Mapping[str, Action] = {
    "pause": Action(
        "Pause",
        "operate",
        lambda f: ApiCall("POST", _provider(f, "pause"), _reason(f)),
        confirmed="name",
    ),
    "resume": Action(
        "Resume", "operate", lambda f: ApiCall("POST", _provider(f, "resume"), _reason(f))
    ),
    "rate": Action(
        "Set the rate",
        "operate",
        lambda f: ApiCall("PUT", _provider(f, "rate"), {"rate": f["rate"], "for": f["for"]}),
    ),
    "rate-end": Action(
        "End the rate", "operate", lambda f: ApiCall("DELETE", _provider(f, "rate"))
    ),
    "test-send": Action("Send a test", "send", _test_send),
    "drain": Action(
        "Drain",
        "operate",
        lambda f: ApiCall("POST", "/v1/ops/drain", _reason(f)),
        confirmed="what",
    ),
    "drain-end": Action(
        "Take messages again", "operate", lambda _f: ApiCall("DELETE", "/v1/ops/drain")
    ),
    "campaign-pause": Action("Pause", "manage", lambda f: _campaign(f, {"state": "paused"})),
    "campaign-resume": Action("Resume", "manage", lambda f: _campaign(f, {"state": "running"})),
    "campaign-cancel": Action(
        "Cancel for good",
        "manage",
        lambda f: _campaign(f, {"state": "cancelled"}),
        confirmed="name",
    ),
    "campaign-pace": Action(
        "Set the pace", "manage", lambda f: _campaign(f, {"pace": f["pace"] or None})
    ),
    "webhook-test": Action(
        "Send a test", "manage", lambda f: ApiCall("POST", _webhook(f, "/test"))
    ),
    "webhook-recover": Action(
        "Tell it again",
        "manage",
        lambda f: ApiCall("POST", _webhook(f, "/recover"), {"since": f["since"]}),
    ),
    "webhook-enable": Action(
        "Enable", "manage", lambda f: ApiCall("PUT", _webhook(f), {"enabled": True})
    ),
    "webhook-disable": Action(
        "Disable",
        "manage",
        lambda f: ApiCall("PUT", _webhook(f), {"enabled": False}),
        confirmed="name",
    ),
    "message-cancel": Action(
        "Cancel",
        "send",
        lambda f: ApiCall("DELETE", f"/v1/messages/{segment(f['id'])}"),
        confirmed="id",
    ),
    "opt-out": Action(
        "Opt out", "send", lambda f: ApiCall("PUT", _opt_out(f), {"scope": f["scope"]})
    ),
    "opt-in": Action("Take the opt-out back", "send", lambda f: ApiCall("DELETE", _opt_out(f))),
    "erase": Action(
        "Erase",
        "send",
        lambda f: ApiCall("DELETE", f"/v1/users/{segment(f['user'])}"),
        confirmed="user",
    ),
}


def form(
    name: str,
    principal: Principal,
    curl_of: Callable[[ApiCall], str],
    hidden: Mapping[str, str] | None = None,
    inputs: Sequence[Input] = (),
) -> ActionForm:
    """An action's form, with its call as curl as long as nothing is changed in it."""
    action, fixed = ACTIONS[name], dict(hidden or {})
    filled = fixed | {each.name: each.value or each.placeholder for each in inputs}
    lacks = action.scope not in principal.scopes
    return ActionForm(
        name,
        action.label,
        fixed,
        inputs,
        fixed.get(action.confirmed, ""),
        action.scope if lacks else "",
        curl_of(action.call(filled)),
    )


def call_of(fields: FormFields) -> ApiCall:
    """The call that a form asks for. Raises Refusal."""
    action = ACTIONS.get(fields.get("action", ""))
    if action is None:
        raise refuse("query", "The form names no action that there is.")
    try:
        if action.confirmed and fields["confirm"].strip() != fields[action.confirmed]:
            name = fields[action.confirmed]
            raise refuse("query", f"Nothing was done: type `{name}` to say that you mean it.")
        return action.call(fields)
    except KeyError as missing:
        raise refuse("query", f"The form has no field {missing}.") from None


def token_of(principal: Principal) -> str:
    """What a form of this key's pages carries, so that no other site can post one."""
    return hmac.new(principal.digest, b"kaskad console", hashlib.sha256).hexdigest()[:32]


def refuse_foreign(request: Request, fields: FormFields) -> None:
    """Raises Refusal for a form that no page of ours sent."""
    site = request.header(b"sec-fetch-site") or b"same-origin"
    origin, host = request.header(b"origin"), request.header(b"host") or b""
    elsewhere = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
    known = hmac.compare_digest(
        fields.get("csrf", "").encode(), token_of(request.principal).encode()
    )
    if site not in (b"same-origin", b"none") or elsewhere or not known:
        raise refuse("forbidden", "This form was not sent by a page of the console: open it again.")
