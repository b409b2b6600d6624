"""What a send request may look like, and everything that is wrong with one that does not.

The Structs of `POST /v1/messages`, from which the OpenAPI document is built, and the rules that
need no record: types, lengths, addresses that can exist, URLs, what needs what (CONTRACT.md section
3).

A good request is decoded once, by msgspec. msgspec stops at the first fault, so a bad one is read a
second time, key by key, and the caller learns of all its faults at once.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec.structs import replace

from gateway.core.addresses import PHONE_RULE, Destination, Recipient
from gateway.core.channels import CHANNELS, NO_CONTROL, ChannelContent
from gateway.core.plan import channels_without_text
from gateway.core.policy import TTL_MAX_MS, Policy
from gateway.core.records.content import Content, content_with
from gateway.core.records.schema2 import HASHED_KEYS
from gateway.core.records.words import ImportanceName, importance_named
from gateway.core.send_windows import ZONE_CHARS_MAX, zone_named
from gateway.core.texts import is_blank, name_of
from gateway.ingress.api import repeated_keys
from gateway.ingress.api.app_bounds import read_destination, sender_faults
from gateway.ingress.api.content_faults import CONTROL, control, override_faults, text_fault
from gateway.ingress.api.decoder import read_keys
from gateway.ingress.http.asgi import NOT_JSON
from gateway.ingress.http.problems import RequestFault
from providers.contract import Category

TTL_S_MAX = TTL_MAX_MS // 1000
METADATA_BYTES_MAX = 1024
NAME_MAX = 128  # the caller's id of a person, or a campaign
KEY_MAX = 255  # an idempotency key
WORTH = "low, normal (the default) or high: what the message is worth. Steps can ask for it."

CATEGORY_RULE = "Required: otp, transactional or marketing, here or in the declared campaign."
TZ_RULE = "An IANA time zone, such as Europe/Moscow."
NAME_RULE = f"1 to {NAME_MAX} characters that can be seen."
_ALL_READ: frozenset[str] = frozenset()
_TEXT_KEYS = ("text", "category", "route", "importance", *CHANNELS)

Name = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        description=f"1 to {NAME_MAX} characters without control characters; kept as NFC, without "
        "spaces at its ends.",
        # How long it is counts as it is kept.
        extra_json_schema={**NO_CONTROL, "maxLength": NAME_MAX},
    ),
]


class RequestBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message to one person. `null` is the same as leaving a key out. Kinds of address that are
    missing in `to` are taken from the stored `user`; of one that has some `to` may be left out."""

    to: (
        Annotated[
            str,
            msgspec.Meta(
                description=PHONE_RULE, extra_json_schema={"pattern": "^\\+[1-9][0-9]{6,14}$"}
            ),
        ]
        | Recipient
        | None
    ) = None
    category: (
        Annotated[
            Category,
            msgspec.Meta(
                description="otp, transactional or marketing; decides lane, caps and default "
                "route. Required, unless the campaign names it."
            ),
        ]
        | None
    ) = None
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
    route: Name | None = None
    send_at: (
        Annotated[
            datetime.datetime,
            msgspec.Meta(
                tz=True,
                description="RFC 3339, at most 30 days ahead: not before that moment. Past: at "
                "once.",
            ),
        ]
        | None
    ) = None
    tz: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=ZONE_CHARS_MAX,
                description="The recipient's IANA time zone, such as Europe/Moscow, for send "
                "windows.",
            ),
        ]
        | None
    ) = None
    importance: Annotated[ImportanceName, msgspec.Meta(description=WORTH)] | None = None
    ttl: (
        Annotated[
            int,
            msgspec.Meta(
                ge=1,
                le=TTL_S_MAX,
                description=f"Seconds from 1 to {TTL_S_MAX}, after which no further step starts; "
                "counted from send_at, or from acceptance.",
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
                extra_json_schema=NO_CONTROL,
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


# Beside them one key a channel, with what differs there.
if TYPE_CHECKING:
    SendRequest = RequestBody
else:
    SendRequest = msgspec.defstruct(
        "SendRequest",
        [(row.name, row.content | None, None) for row in CHANNELS.values()],
        bases=(RequestBody,),
        module=__name__,
        namespace={"__doc__": RequestBody.__doc__},
        frozen=True,
        forbid_unknown_fields=True,
        omit_defaults=True,
    )


class ValidRequest(msgspec.Struct, frozen=True):
    """A request that passed, where it goes, and its category. `filled` has what its campaign says
    where the request does not."""

    request: RequestBody
    filled: RequestBody
    destination: Destination
    category: Category


class Faulty(msgspec.Struct, frozen=True):
    """A request that did not: its first faults, and how many there are."""

    faults: list[RequestFault]
    total: int


class Malformed(msgspec.Struct, frozen=True):
    """The text is not JSON; `detail` says where."""

    detail: str


_decode = msgspec.json.Decoder(SendRequest).decode
_decode_any = msgspec.json.Decoder().decode
_plain = msgspec.msgpack.Encoder().encode
_canonical = msgspec.msgpack.Encoder(order="deterministic").encode
_metadata_json = msgspec.json.Encoder().encode


def read(raw: bytes | msgspec.Raw, policy: Policy, app: str) -> ValidRequest | Malformed | Faulty:
    """Reads one request of an app."""
    raw = bytes(raw)
    try:
        request = _decode(raw)
        if not repeated_keys.surely_none(raw, request) and repeated_keys.paths(
            raw, _decode_any(raw)
        ):
            return _key_by_key(raw, policy, app)
    except msgspec.ValidationError:
        return _key_by_key(raw, policy, app)
    except NOT_JSON as error:
        return Malformed(_sentence(error))
    if request.user is not None or request.campaign is not None:
        request = _with_one_spelling(request)
    filled = _filled(request, policy) if policy.declared.campaigns else request
    destination, faults = _meaning(filled, policy, app, _ALL_READ)
    if faults or destination is None or filled.category is None:
        return Faulty(faults, len(faults))
    return ValidRequest(request, filled, destination, filled.category)


def overrides_of(request: RequestBody) -> dict[str, ChannelContent]:
    """What the request says differently, by channel."""
    said = msgspec.structs.astuple(request)[-len(CHANNELS) :]  # its last fields
    if not any(said):  # as almost always
        return {}
    return {name: own for name, own in zip(CHANNELS, said, strict=True) if own is not None}


def content_of(request: RequestBody) -> Content:
    """The content as the core keeps it; without `text`, each of its channels has its own."""
    overrides = overrides_of(request)
    return content_with(request.text or "", overrides) if overrides else Content(request.text or "")


def moment_ms(at: datetime.datetime | None) -> int:
    """A moment as the core keeps it; 0: none was named, or one before 1970."""
    return max(int(at.timestamp() * 1000), 0) if at is not None else 0


def body_hash(request: RequestBody) -> bytes:
    """128 bits of what was asked for: the order of keys, white space and escapes do not matter,
    nor does the idempotency key itself, which may stand in the header instead.

    A key that a later version adds counts only where it is given, so that a repeated request keeps
    its hash."""
    said = {name: getattr(request, name) for name in HASHED_KEYS}
    for name in request.__struct_fields__:
        if name not in said and (value := getattr(request, name)) is not None:
            said[name] = value
    said["idempotency_key"] = None
    raw = {name: msgspec.Raw(_canonical(value)) for name, value in said.items()}
    return blake2b(_plain(raw), digest_size=16).digest()


def key_fault(key: str) -> str | None:
    """Why a text cannot be an idempotency key; None when it can."""
    if 0 < len(key) <= KEY_MAX and control(key) is None:
        return None
    return f"An idempotency key has 1 to {KEY_MAX} characters without control characters."


# --- what a decoded request must mean ---


def _with_one_spelling(request: RequestBody) -> RequestBody:
    """The request with the names as they are kept."""
    user, campaign = request.user, request.campaign
    kept_user = None if user is None else name_of(user)
    kept_campaign = None if campaign is None else name_of(campaign)
    if kept_user == user and kept_campaign == campaign:  # as almost always
        return request
    return replace(request, user=kept_user, campaign=kept_campaign)


def _filled(request: RequestBody, policy: Policy) -> RequestBody:
    """The request with what its campaign says where it says nothing itself. A route that is gone
    from the configuration counts as none."""
    campaign = policy.declared.of(request.campaign) if policy.declared.campaigns else None
    if campaign is None:  # as almost always
        return request
    ttl_ms = campaign.ttl_ms
    return replace(
        request,
        category=request.category or campaign.category,
        importance=request.importance or campaign.importance,
        route=request.route or (campaign.route if campaign.route in policy.routes else None),
        ttl=request.ttl or (ttl_ms // 1000 if ttl_ms is not None else None),
    )


def _meaning(
    request: RequestBody, policy: Policy, app: str, unread: frozenset[str]
) -> tuple[Destination | None, list[RequestFault]]:
    """The rules beyond types and lengths. `unread` names keys whose value, or a part of it, is a
    stand-in, because what was sent could not be read: they are at fault already."""
    rule = policy.app(app)
    destination, faults = read_destination(request.to, request.user, rule, unread)
    user, campaign, text = request.user, request.campaign, request.text
    # One search for all names, and almost always none: what can be printed is no control character.
    names = f"{user}{campaign}{request.route}{request.idempotency_key}"
    if not names.isprintable() and control(names):
        faults.extend(_control_faults(request))
    if user is not None and (is_blank(user) or len(user) > NAME_MAX):
        faults.append(RequestFault("/user", NAME_RULE))
    if campaign is not None and (is_blank(campaign) or len(campaign) > NAME_MAX):
        faults.append(RequestFault("/campaign", NAME_RULE))
    if text is not None and (detail := text_fault(text)):
        faults.append(RequestFault("/text", detail))
    if campaign is None or request.category is None or request.tz is not None:
        faults.extend(_lacking(request, unread))
    if request.metadata and len(_metadata_json(request.metadata)) > METADATA_BYTES_MAX:
        faults.append(
            RequestFault(
                "/metadata", f"As JSON it may have {METADATA_BYTES_MAX} bytes: shorten it."
            )
        )
    lacks_text = request.text is None and "text" not in unread
    for channel, said in overrides_of(request).items():
        alone = lacks_text and channel not in unread
        faults.extend(override_faults(channel, said, alone=alone))
        faults.extend(sender_faults(channel, said, rule))
    if text is None and request.category and unread.isdisjoint(_TEXT_KEYS):
        lacking = channels_without_text(
            request.category,
            request.route,
            importance_named(request.importance),
            content_of(request),
            destination.addresses if destination is not None else None,
            policy,
        )
        if lacking:
            faults.append(
                RequestFault("/text", f"There is no text for {' and '.join(lacking)}: give one.")
            )
    return destination, faults


def _control_faults(request: RequestBody) -> Iterator[RequestFault]:
    for key in ("user", "campaign", "route", "idempotency_key"):
        value = getattr(request, key)
        if value is not None and control(value) is not None:
            yield RequestFault(f"/{key}", CONTROL)


def _lacking(request: RequestBody, unread: frozenset[str]) -> Iterator[RequestFault]:
    """A category that nobody names, marketing without a campaign, and a zone that is none."""
    if request.category is None and unread.isdisjoint(("category", "campaign")):
        yield RequestFault("/category", CATEGORY_RULE)
    if request.category == "marketing" and request.campaign is None and "campaign" not in unread:
        yield RequestFault("/campaign", "A marketing message needs the name of its campaign.")
    if request.tz is not None and zone_named(request.tz) is None:
        yield RequestFault("/tz", TZ_RULE)


# --- a request that msgspec refused, or that has a key twice ---

_EXAMPLE = '{"to": "+79161234567", "category": "otp", "text": "Your code: 123456"}'


def _key_by_key(raw: bytes, policy: Policy, app: str) -> ValidRequest | Malformed | Faulty:
    try:
        found = read_keys(SendRequest, raw, _EXAMPLE)
    except NOT_JSON as error:
        return Malformed(_sentence(error))
    if found.faults and not found.unread:
        return Faulty(found.faults, found.total)  # it is no object
    request = _with_one_spelling(SendRequest(**found.values))
    filled = _filled(request, policy)
    destination, more = _meaning(filled, policy, app, found.unread)
    if destination is not None and filled.category and not found.faults and not more:
        return ValidRequest(request, filled, destination, filled.category)
    return Faulty(found.faults + more, found.total + len(more))


def _sentence(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "The JSON is nested too deeply."
    return f"This is not JSON in UTF-8: {error}."
