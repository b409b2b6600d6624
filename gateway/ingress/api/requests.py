"""What a send request may look like, and everything that is wrong with one that does not.

Owns the Structs of `POST /v1/messages` (the OpenAPI document is built from them) and the rules of
CONTRACT.md section 3 that need no record: types, lengths, a phone number that can exist, URLs,
what needs what. It must not know apps, Redis or the price list.

A good request is decoded once, by msgspec. msgspec stops at the first fault, so a bad one is read a
second time, key by key, and the caller learns of all its faults at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from gateway.core import phones
from gateway.core.model import Content
from gateway.core.phones import Phone, PhoneError
from gateway.core.policy import Policy
from gateway.ingress.api.decoder import read_keys
from gateway.ingress.http.asgi import NOT_JSON
from gateway.ingress.http.problems import Fault
from providers.contract import Button as CoreButton
from providers.contract import Category

TTL_S_MAX = 2_592_000
METADATA_BYTES_MAX = 1024
URL_MAX = 1000
KEY_MAX = 255  # an idempotency key

_control = re.compile(r"[\x00-\x1f\x7f-\x9f]").search
_bad_in_url = re.compile(r"[\x00-\x20\x7f-\xa0\"<>\\^`{|}]").search
_NO_CONTROL = {"pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"}

PHONE_RULE = "A phone number in E.164, such as +79161234567."
_URL_RULE = f"An absolute http or https address of at most {URL_MAX} characters."

Text = Annotated[
    str, msgspec.Meta(min_length=1, max_length=1000, description="1 to 1000 characters.")
]
Name = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=128,
        description="1 to 128 characters without control characters.",
        extra_json_schema=_NO_CONTROL,
    ),
]
Url = Annotated[
    str,
    msgspec.Meta(
        min_length=8,
        max_length=URL_MAX,
        description=_URL_RULE,
        extra_json_schema={"pattern": "^https?://[^\\s]+$"},
    ),
]


class Button(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A button below a Viber message."""

    caption: Annotated[
        str, msgspec.Meta(min_length=1, max_length=30, description="1 to 30 characters.")
    ]
    url: Url


class ViberContent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What differs on Viber. A button needs a text, here or in `text` of the message."""

    text: Text | None = None
    image_url: Url | None = None
    button: Button | None = None


class SmsContent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What differs on SMS."""

    text: Text | None = None
    sender: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=16,
                description="A sender of 1 to 16 characters that the provider knows.",
                extra_json_schema=_NO_CONTROL,
            ),
        ]
        | None
    ) = None


class SendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message to one person. `null` is the same as leaving a key out."""

    to: Annotated[
        str,
        msgspec.Meta(
            description=PHONE_RULE, extra_json_schema={"pattern": "^\\+[1-9][0-9]{6,14}$"}
        ),
    ]
    category: Annotated[
        Category,
        msgspec.Meta(
            description="otp, transactional or marketing; decides lane, caps and default route."
        ),
    ]
    text: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=1000,
                description="1 to 1000 characters: the content of every channel of the route that "
                "has no text of its own, and required where one has none.",
            ),
        ]
        | None
    ) = None
    user: Name | None = None
    campaign: Name | None = None
    viber: ViberContent | None = None
    sms: SmsContent | None = None
    route: Name | None = None
    ttl: (
        Annotated[
            int,
            msgspec.Meta(
                ge=1,
                le=TTL_S_MAX,
                description=f"Seconds from 1 to {TTL_S_MAX}, after which no further step starts.",
            ),
        ]
        | None
    ) = None
    idempotency_key: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=KEY_MAX,
                description=f"1 to {KEY_MAX} characters without control characters.",
                extra_json_schema=_NO_CONTROL,
            ),
        ]
        | None
    ) = None
    metadata: (
        Annotated[
            dict[str, str],
            msgspec.Meta(
                description=f"An object of strings, at most {METADATA_BYTES_MAX} bytes as JSON."
            ),
        ]
        | None
    ) = None


class Read(msgspec.Struct, frozen=True):
    """A request that passed, and the phone it names."""

    request: SendRequest
    phone: Phone


class Malformed(msgspec.Struct, frozen=True):
    """The text is not JSON; `detail` says where."""

    detail: str


_decode = msgspec.json.Decoder(SendRequest).decode
_decode_any = msgspec.json.Decoder().decode
_canonical = msgspec.msgpack.Encoder(order="deterministic").encode
_metadata_json = msgspec.json.Encoder().encode


def read(raw: bytes | msgspec.Raw, policy: Policy) -> Read | Malformed | list[Fault]:
    """Reads one request; a list holds every fault found."""
    try:
        request = _decode(raw)
    except msgspec.ValidationError:
        return _all_faults(raw, policy)
    except NOT_JSON as error:
        return Malformed(_sentence(error))
    phone, faults = _meaning(request, policy, frozenset())
    if faults or phone is None:
        return faults
    return Read(request, phone)


def content_of(request: SendRequest) -> Content:
    """The content as the core keeps it; without `text`, each of its channels has its own."""
    viber, sms = request.viber, request.sms
    button = viber.button if viber is not None else None
    return Content(
        text=request.text or "",
        viber_text=viber.text if viber is not None else None,
        image_url=viber.image_url if viber is not None else None,
        button=CoreButton(button.caption, button.url) if button is not None else None,
        sms_text=sms.text if sms is not None else None,
        sms_sender=sms.sender if sms is not None else None,
    )


def body_hash(request: SendRequest) -> bytes:
    """128 bits of what was asked for: the order of keys, white space and escapes do not matter,
    nor does the idempotency key itself, which may stand in the header instead."""
    bare = msgspec.structs.replace(request, idempotency_key=None)
    return blake2b(_canonical(bare), digest_size=16).digest()


def key_fault(key: str) -> str | None:
    """Why a text cannot be an idempotency key; None when it can."""
    if 0 < len(key) <= KEY_MAX and _control(key) is None:
        return None
    return f"An idempotency key has 1 to {KEY_MAX} characters without control characters."


# --- what a decoded request must mean ---


def _meaning(
    request: SendRequest, policy: Policy, unread: frozenset[str]
) -> tuple[Phone | None, list[Fault]]:
    """The rules beyond types and lengths. `unread` names keys whose value is a stand-in, because
    what was sent could not be read: they are at fault already."""
    faults: list[Fault] = []
    phone = None
    if "to" not in unread:
        try:
            phone = phones.parse(request.to)
        except PhoneError as error:
            faults.append(Fault("/to", str(error)))
    # One search for all names: almost always there is nothing to find.
    if _control(f"{request.user}{request.campaign}{request.route}{request.idempotency_key}"):
        faults.extend(_control_faults(request))
    if request.category == "marketing" and request.campaign is None and "campaign" not in unread:
        faults.append(Fault("/campaign", "A marketing message needs the name of its campaign."))
    if request.metadata and len(_metadata_json(request.metadata)) > METADATA_BYTES_MAX:
        faults.append(
            Fault("/metadata", f"As JSON it may have {METADATA_BYTES_MAX} bytes: shorten it.")
        )
    if request.viber is not None or request.sms is not None:
        faults.extend(_override_faults(request, unread))
    if request.text is None and unread.isdisjoint(("text", "viber", "sms", "category", "route")):
        faults.extend(_missing_texts(request, policy))
    return phone, faults


def _control_faults(request: SendRequest) -> Iterator[Fault]:
    for key in ("user", "campaign", "route", "idempotency_key"):
        value = getattr(request, key)
        if value is not None and _control(value) is not None:
            yield Fault(f"/{key}", "Control characters cannot stand here: leave them out.")


def _override_faults(request: SendRequest, unread: frozenset[str]) -> Iterator[Fault]:
    viber, sms = request.viber, request.sms
    if sms is not None and sms.sender is not None and _control(sms.sender) is not None:
        yield Fault("/sms/sender", "Control characters cannot stand here: leave them out.")
    if viber is None:
        return
    if viber.image_url is not None and not _is_url(viber.image_url):
        yield Fault("/viber/image_url", _URL_RULE)
    if viber.button is None:
        return
    if not _is_url(viber.button.url):
        yield Fault("/viber/button/url", _URL_RULE)
    if viber.text is None and request.text is None and "text" not in unread:
        yield Fault("/viber/button", "A button needs a text: give viber.text or text.")


def _missing_texts(request: SendRequest, policy: Policy) -> Iterator[Fault]:
    """Without `text`, each channel of the route must have its own. A route or category that is not
    configured is the admission's to refuse."""
    rule = policy.categories.get(request.category)
    route = policy.routes.get(request.route or (rule.route if rule is not None else ""), ())
    channels = {policy.providers[step.provider].channel for step in route}
    viber_text = request.viber.text if request.viber is not None else None
    sms_text = request.sms.text if request.sms is not None else None
    lacking = [
        channel
        for channel, text in (("viber", viber_text), ("sms", sms_text))
        if text is None and (channel in channels or not channels)
    ]
    if lacking:
        yield Fault("/text", f"There is no text for {' and '.join(lacking)}: give one.")


def _is_url(url: str) -> bool:
    if _bad_in_url(url) is not None:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


# --- every fault of a request that msgspec refused ---

_STAND_INS: dict[str, Any] = {"to": "", "category": "transactional"}


def _all_faults(raw: bytes | msgspec.Raw, policy: Policy) -> list[Fault] | Malformed:
    try:
        table = _decode_any(raw)
    except NOT_JSON as error:
        return Malformed(_sentence(error))
    if not isinstance(table, dict):
        return [Fault("", "A message is a JSON object with the keys `to`, `category` and more.")]
    values, faults = read_keys(SendRequest, table)
    unread = frozenset(table.keys() | {"to", "category"}) - values.keys()
    _, more = _meaning(SendRequest(**{**_STAND_INS, **values}), policy, unread)
    return faults + more


def _sentence(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "The JSON is nested too deeply."
    return f"This is not JSON in UTF-8: {error}."
