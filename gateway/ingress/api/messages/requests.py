"""A send request is read, and everything that is wrong with it is told.

The rules that need no record: types, lengths, addresses that can exist, URLs, what needs what
(CONTRACT.md section 3).

A good request is decoded once, by msgspec. msgspec stops at the first fault, so a bad one is read a
second time, key by key, and the caller learns of all its faults at once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

import msgspec
from msgspec.structs import replace

from gateway.core.addresses import Destination
from gateway.core.campaigns.campaign_words import Draft
from gateway.core.campaigns.campaigns import Campaign
from gateway.core.campaigns.send_windows import zone_named
from gateway.core.channels import CHANNELS, ChannelContent
from gateway.core.plan import channels_without_text
from gateway.core.policy import Policy
from gateway.core.records.content import Content, content_with
from gateway.core.records.request import Saying
from gateway.core.records.schema2 import HASHED_KEYS
from gateway.core.records.words import importance_named
from gateway.core.texts import is_blank, name_of
from gateway.ingress.api.bodies import repeated_keys
from gateway.ingress.api.bodies.decoder import ReadKeys, not_json, read_keys
from gateway.ingress.api.bodies.names import CONTROL, NAME_MAX, NAME_RULE, control
from gateway.ingress.api.messages.app_bounds import read_destination, sender_faults
from gateway.ingress.api.messages.content_faults import link_faults, override_faults, text_fault
from gateway.ingress.api.messages.request_body import (
    KEY_MAX,
    METADATA_BYTES_MAX,
    VARS_BYTES_MAX,
    RequestBody,
    SendRequest,
)
from gateway.ingress.api.messages.sayings import DraftsOf, WordsUnread, sayings_of
from gateway.ingress.http.asgi import NOT_JSON
from gateway.ingress.http.problems import RequestFault
from providers.contract import Category

CATEGORY_RULE = "Required: otp, transactional or marketing, here or in the declared campaign."
TZ_RULE = "An IANA time zone, such as Europe/Moscow."
_ALL_READ = ReadKeys({}, [], 0)
_SAID_KEYS = frozenset(("text", "vars", *CHANNELS))
_TEXT_KEYS = _SAID_KEYS | {"category", "route", "importance"}


class ValidRequest(msgspec.Struct, frozen=True):
    """A request that passed, where it goes, its category, and its own words. `filled` has what its
    campaign says where the request does not, and `sayings` what is said in each variant of that.
    `tracked`: its URLs become links."""

    request: RequestBody
    filled: RequestBody
    destination: Destination
    category: Category
    content: Content
    sayings: tuple[Saying, ...] = ()
    tracked: bool = False


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
_json = msgspec.json.Encoder().encode
_said_by_channel: Callable[[RequestBody], tuple[ChannelContent | None, ...]]
_said_by_channel = operator.attrgetter(*CHANNELS)


def nothing_said(_: bytes) -> Sequence[Draft]:
    """Where no campaign says anything."""
    return ()


def read(
    raw: bytes, policy: Policy, app: str, drafts_of: DraftsOf = nothing_said
) -> ValidRequest | Malformed | Faulty | WordsUnread:
    """Reads one request of an app. `drafts_of` gives what a campaign says that names those words;
    None: they are to be read first."""
    try:
        request = decoded(raw)
    except NOT_JSON as error:
        return Malformed(not_json(raw, error))
    if request is None:
        return _key_by_key(raw, policy, app, drafts_of)
    return _understood(request, policy, app, drafts_of, _ALL_READ)


def decoded(raw: bytes) -> SendRequest | None:
    """One request, whatever it means; None: a value is of another kind, or a key is given twice.
    What is no JSON ends in one of NOT_JSON."""
    try:
        request = _decode(raw)
    except msgspec.ValidationError:
        return None
    if not repeated_keys.surely_none(raw, request):
        _, repeated = repeated_keys.paths(raw, _decode_any(raw))
        if repeated:
            return None
    return request


def overrides_of(request: RequestBody) -> dict[str, ChannelContent]:
    """What the request says differently, by channel."""
    said = _said_by_channel(request)
    if not any(said):  # as almost always
        return {}
    return {name: own for name, own in zip(CHANNELS, said, strict=True) if own is not None}


def content_of(request: RequestBody, overrides: dict[str, ChannelContent]) -> Content:
    """The content as the core keeps it; without `text`, each of its channels has its own."""
    return content_with(request.text or "", overrides) if overrides else Content(request.text or "")


def body_hash(request: RequestBody) -> bytes:
    """128 bits of what was asked for: the order of keys, white space and escapes do not matter,
    nor does the idempotency key itself, which may stand in the header instead. The names are to be
    as they are kept.

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


def with_one_spelling(request: RequestBody) -> RequestBody:
    """The request with the names as they are kept."""
    user, campaign = request.user, request.campaign
    kept_user = None if user is None else name_of(user)
    kept_campaign = None if campaign is None else name_of(campaign)
    if kept_user == user and kept_campaign == campaign:  # as almost always
        return request
    return replace(request, user=kept_user, campaign=kept_campaign)


def _understood(
    request: RequestBody, policy: Policy, app: str, drafts_of: DraftsOf, found: ReadKeys
) -> ValidRequest | Faulty | WordsUnread:
    """What a decoded request means; `found` has what could not be decoded."""
    if request.user is not None or request.campaign is not None:
        request = with_one_spelling(request)
    overrides = overrides_of(request)
    filled, own = request, content_of(request, overrides)
    sayings: tuple[Saying, ...] = ()
    contents: Sequence[Content] = ()
    campaign = policy.declared.of(request.campaign) if policy.declared.campaigns else None
    faults, unread = list(found.faults), found.unread
    if campaign is not None:
        filled = _filled(request, campaign, policy)
        if campaign.words:
            drafts = drafts_of(campaign.words)
            if drafts is None:
                return WordsUnread(request.campaign or "", campaign.words)
            sayings, contents, more = sayings_of(own, filled.vars, drafts, policy.app(app))
            if more and unread.isdisjoint(_SAID_KEYS):
                faults += more
                unread |= {"vars"}
    destination, more = _meaning(filled, policy, app, unread, own, overrides, contents)
    faults += more
    tracked = _is_tracked(filled, policy)
    if tracked and not faults:
        faults += _link_faults(request, contents or [own], policy)
    if faults or destination is None or filled.category is None:
        return Faulty(faults, found.total + len(faults) - len(found.faults))
    return ValidRequest(request, filled, destination, filled.category, own, sayings, tracked)


def _is_tracked(request: RequestBody, policy: Policy) -> bool:
    """Never of a code: whoever waits for one must see where it is from."""
    if request.links is None and not policy.links.track:  # as almost always
        return False
    return request.links != "off" and request.category != "otp"


def _link_faults(
    request: RequestBody, contents: Iterable[Content], policy: Policy
) -> list[RequestFault]:
    """What is wrong with URLs of the message's own words, and with those of its campaign."""
    faults: dict[RequestFault, None] = {}
    for fault in (each for content in contents for each in link_faults(content, policy.links)):
        key = fault.pointer.split("/")[1]
        if getattr(request, key) is None:
            place = fault.pointer[1:].replace("/", ".")
            fault = RequestFault("/campaign", f"The campaign's {place}: {fault.detail}")
        faults[fault] = None
    return list(faults)


def _filled(request: RequestBody, campaign: Campaign, policy: Policy) -> RequestBody:
    """The request with what its campaign says where it says nothing itself. A route that is gone
    from the configuration counts as none."""
    ttl_ms = campaign.ttl_ms
    return replace(
        request,
        category=request.category or campaign.category,
        importance=request.importance or campaign.importance,
        route=request.route or (campaign.route if campaign.route in policy.routes else None),
        links=request.links or campaign.links,
        ttl=request.ttl or (ttl_ms // 1000 if ttl_ms is not None else None),
    )


def _meaning(
    request: RequestBody,
    policy: Policy,
    app: str,
    unread: frozenset[str],
    own: Content,
    overrides: Mapping[str, ChannelContent],
    contents: Sequence[Content],
) -> tuple[Destination | None, list[RequestFault]]:
    """The rules beyond types and lengths. `unread` names keys whose value, or a part of it, is a
    stand-in, because what was sent could not be read: they are at fault already. `own` and
    `overrides` are its own words, `contents` what is said with its campaign's, if that has any."""
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
    if request.metadata and len(_json(request.metadata)) > METADATA_BYTES_MAX:
        faults.append(
            RequestFault(
                "/metadata", f"As JSON it may have {METADATA_BYTES_MAX} bytes: shorten it."
            )
        )
    if request.vars and len(_json(request.vars)) > VARS_BYTES_MAX:
        detail = f"As JSON they may have {VARS_BYTES_MAX} bytes: shorten them."
        faults.append(RequestFault("/vars", detail))
    lacks_text = request.text is None and "text" not in unread and not contents
    for channel, said in overrides.items():
        alone = lacks_text and channel not in unread
        faults.extend(override_faults(channel, said, alone=alone))
        faults.extend(sender_faults(channel, said, rule))
    if text is None and request.category and unread.isdisjoint(_TEXT_KEYS):
        addresses = destination.addresses if destination is not None else None
        lacking = [
            name
            for content in contents or [own]
            for name in channels_without_text(
                request.category,
                request.route,
                importance_named(request.importance),
                content,
                addresses,
                policy,
            )
        ]
        if lacking:
            names = " and ".join(dict.fromkeys(lacking))
            faults.append(RequestFault("/text", f"There is no text for {names}: give one."))
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


def _key_by_key(
    raw: bytes, policy: Policy, app: str, drafts_of: DraftsOf
) -> ValidRequest | Malformed | Faulty | WordsUnread:
    try:
        found = read_keys(SendRequest, raw, _EXAMPLE)
    except NOT_JSON as error:
        return Malformed(not_json(raw, error))
    if found.faults and not found.unread:
        return Faulty(found.faults, found.total)  # it is no object, or too long a one
    return _understood(SendRequest(**found.values), policy, app, drafts_of, found)
