"""`PUT` and `GET /v1/campaigns/{name}`, and `GET /v1/campaigns`: what is declared of a campaign.

Keys left out stay, `null` resets one. What is set holds within two seconds everywhere, for messages
under way as well. A campaign that was cancelled stays so. Every change is noted in the audit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from gateway.core.campaigns.campaign_words import (
    CampaignContent,
    CampaignWords,
    Variant,
    pack_words,
    restored,
    shortened,
    unpack_words,
)
from gateway.core.campaigns.campaigns import HOLDOUT_PARTS, NO_WINDOW, Campaign, CampaignState
from gateway.core.policy import TTL_MAX_MS, Policy
from gateway.core.records.person import REMEMBERED_MS
from gateway.core.records.words import ImportanceName, LinksWord
from gateway.core.texts import name_of
from gateway.ingress.api.bodies.decoder import Moment, moment_ms, read_given, require_json
from gateway.ingress.api.bodies.names import NAME_MAX, name_fault
from gateway.ingress.api.bodies.parameters import read_page
from gateway.ingress.api.campaigns.budgets import views_of
from gateway.ingress.api.campaigns.campaign_content import words_faults, words_with
from gateway.ingress.api.campaigns.campaign_view import CampaignList, CampaignView, view_of
from gateway.ingress.api.results import of_newer
from gateway.ingress.http.asgi import to_json
from gateway.ingress.http.problems import Refusal, RequestFault, invalid, refuse
from gateway.ingress.http.request import Request
from gateway.store.campaigns import cancelling, declarations, lapsing
from gateway.store.campaigns.declarations import UnreadableDeclarationError
from gateway.store.installation.audit import Deed
from gateway.store.store import Store
from providers.contract import Category
from providers.notation import Duration

BODY_BYTES_MAX = 512 * 1024
CAMPAIGNS_MAX = 10_000  # that may be declared: every process keeps all of them
EXAMPLE = '{"state": "running", "pace": "600/m"}'
PACE_RULE = 'First steps a minute, such as "600/m": a whole number of at most 6000000.'
PACE_MAX = 6_000_000
NAME_RULE = f"1 to {NAME_MAX} visible characters."
HOLDOUT_RULE = "Per cent of people, of marketing, in steps of 0.01; 0: nobody."
EXCLUDED_MAX = 100
_MOMENTS = {"start_at", "end_at", "send_window"}  # what waits is asked again when one is moved
SILENT_RULE = 'How long without a reaction, such as "90d": 365d at most.'

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_pace = re.compile(r"([0-9]{1,7})/m").fullmatch

Excluded = Annotated[str, msgspec.Meta(min_length=1, description="A campaign's name.")]
ConfiguredName = Annotated[
    str, msgspec.Meta(min_length=1, max_length=64, description="A name of the configuration.")
]


class CampaignRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to hold of a campaign; keys left out stay, `null` resets one."""

    state: (
        Annotated[CampaignState, msgspec.Meta(description="running, paused or cancelled.")] | None
    ) = None
    category: (
        Annotated[Category, msgspec.Meta(description="otp, transactional or marketing.")] | None
    ) = None
    importance: Annotated[ImportanceName, msgspec.Meta(description="low, normal, high.")] | None = (
        None
    )
    route: ConfiguredName | None = None
    ttl: (
        Annotated[
            int, msgspec.Meta(ge=1, le=TTL_MAX_MS // 1000, description="Seconds, 30 days at most.")
        ]
        | None
    ) = None
    links: Annotated[LinksWord, msgspec.Meta(description="track or off.")] | None = None
    start_at: Moment | None = None
    end_at: Moment | None = None
    pace: Annotated[str, msgspec.Meta(description=PACE_RULE)] | None = None
    send_window: ConfiguredName | None = None
    recipients_max: (
        Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000, description="Messages accepted.")]
        | None
    ) = None
    holdout_percent: (
        Annotated[float, msgspec.Meta(ge=0, le=100, description=HOLDOUT_RULE)] | None
    ) = None
    content: CampaignContent | None = None
    variants: list[Variant] | None = None
    exclude_campaigns: (
        Annotated[list[Excluded], msgspec.Meta(max_length=EXCLUDED_MAX, description="Names.")]
        | None
    ) = None
    silent_for: Annotated[str, msgspec.Meta(description=SILENT_RULE)] | None = None


class CampaignEndpoints:
    """Declares campaigns and shows them. `now_ms` is the edge's clock."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def put(self, request: Request) -> None:
        require_json(request)
        name = _name(request)
        body = await request.body(BODY_BYTES_MAX)
        short, given = read_given(CampaignRequest, body, EXAMPLE, prepare=shortened)
        wanted: CampaignRequest = restored(short, _decode(body))
        faults = list(_faults(name, wanted, self._store.policy))
        if faults:
            raise Refusal(invalid(faults))
        now_ms, by = self._now_ms(), request.principal.named
        await self._store.look_at_campaigns(now_ms)
        await self._make_room(name, now_ms)

        def decide(before: Campaign | None, packed: bytes) -> tuple[Campaign, bytes]:
            after = _changed(before or Campaign(), wanted, given)
            said = _said(packed, wanted, given)
            if before is not None and before.state == "cancelled":
                if after == before and said == packed:
                    return before, packed
                raise refuse("final", "The campaign is cancelled, and that is for good.")
            ends_early = after.start_ms and after.end_ms and after.end_ms <= after.start_ms
            if ends_early and given & {"start_at", "end_at"}:
                raise Refusal(invalid([_order_fault(given)]))
            cancelled_ms = now_ms if after.state == "cancelled" else 0
            after = replace(
                after,
                cancelled_ms=cancelled_ms,
                moved_ms=now_ms if given & _MOMENTS else after.moved_ms,
                updated_ms=now_ms,
                updated_by=by,
            )
            return after, said

        def deed(after: Campaign) -> Deed:
            keys = ", ".join(sorted(given))
            return Deed(now_ms, by, f"campaign.{after.state}", name, keys)

        try:
            store = self._store
            await declarations.change(store.redis, store.shards, name, decide, deed)
        except UnreadableDeclarationError as error:
            raise of_newer("The campaign was declared") from error
        await self._show(request, name)

    async def _make_room(self, name: str, now_ms: int) -> None:
        """Raises Refusal where there is none for one more campaign."""
        store = self._store
        known = store.policy.declared.campaigns
        if name in known or len(known) < CAMPAIGNS_MAX:
            return
        if not await lapsing.make_room(store.redis, store.shards, known, now_ms):
            told = f"{CAMPAIGNS_MAX} campaigns are declared, and none ended more than 30 days ago"
            raise refuse("final", f"{told}: give those that are over an end_at.")

    async def get(self, request: Request) -> None:
        await self._show(request, _name(request))

    async def every(self, request: Request) -> None:
        asked = read_page(request.query, lambda text: _name_before(text) is not None)
        before = _name_before(asked.cursor) or ""
        await self._store.look_at_campaigns(self._now_ms())
        campaigns = self._store.policy.declared.campaigns
        names = sorted(name for name in campaigns if name > before)
        page, rest = names[: asked.limit], names[asked.limit :]
        items = await self._views(request, {name: campaigns[name] for name in page})
        cursor = page[-1].encode().hex() if rest else None
        await request.respond(200, to_json(CampaignList(items, cursor)))

    async def _show(self, request: Request, name: str) -> None:
        await self._store.look_at_campaigns(self._now_ms())
        campaign = self._store.policy.declared.of(name)
        if campaign is None:
            raise refuse("not-found", "No campaign of this name is declared.")
        (view,) = await self._views(request, {name: campaign})
        await request.respond(200, to_json(view))

    async def _views(
        self, request: Request, campaigns: Mapping[str, Campaign]
    ) -> list[CampaignView]:
        redis, shards = self._store.redis, self._store.shards
        counts = await declarations.counts(redis, shards, list(campaigns))
        cancelled = [name for name, each in campaigns.items() if each.state == "cancelled"]
        left = await cancelling.left(redis, shards, cancelled)
        words = await declarations.words(redis, [n for n, each in campaigns.items() if each.words])
        of_these = [b for b in self._store.policy.budgets if b.campaign in campaigns]
        budgets = await views_of(self._store, of_these, self._now_ms())
        money = "report-all" in request.principal.scopes
        return [
            view_of(
                name,
                each,
                _readable(words.get(name, b"")),
                counts[name],
                [budget for budget in budgets if budget.campaign == name],
                cancelling=bool(left.get(name)),
                money=money,
            )
            for name, each in campaigns.items()
        ]


def _readable(packed: bytes) -> CampaignWords:
    """What a campaign says; of a newer version's nothing, which shows it."""
    try:
        return unpack_words(packed)
    except msgspec.DecodeError:
        return CampaignWords()


def _changed(before: Campaign, wanted: CampaignRequest, given: Set[str]) -> Campaign:
    """The campaign with the keys that were given."""
    state: CampaignState = wanted.state or "running" if "state" in given else before.state
    values: dict[str, Any] = {
        "state": state,
        "category": wanted.category,
        "importance": wanted.importance,
        "route": wanted.route,
        "ttl": wanted.ttl * 1000 if wanted.ttl is not None else None,
        "links": wanted.links,
        "start_at": moment_ms(wanted.start_at),
        "end_at": moment_ms(wanted.end_at),
        "pace": wanted.pace,
        "send_window": wanted.send_window,
        "recipients_max": wanted.recipients_max,
        "holdout_percent": _holdout(wanted.holdout_percent),
        "exclude_campaigns": tuple(dict.fromkeys(map(name_of, wanted.exclude_campaigns or ()))),
        "silent_for": wanted.silent_for,
    }
    fields = {"ttl": "ttl_ms", "start_at": "start_ms", "end_at": "end_ms"}
    fields["holdout_percent"] = "holdout"
    changes = {fields.get(key, key): values[key] for key in values if key in given}
    if "pace" in given:
        changes["pace_per_min"] = _per_min(wanted.pace) or 0
    if "silent_for" in given:
        changes["silent_ms"] = _silent_ms(wanted.silent_for) or 0
    return replace(before, **changes)


def _said(packed: bytes, wanted: CampaignRequest, given: Set[str]) -> bytes:
    """What it says with the keys that were given, packed. Raises Refusal, and
    UnreadableDeclarationError where a newer version said something."""
    if given.isdisjoint(("content", "variants")):
        return packed
    try:
        before = unpack_words(packed)
    except msgspec.DecodeError as error:
        raise UnreadableDeclarationError from error
    words = words_with(before, given, wanted.content, wanted.variants)
    faults = list(words_faults(words))
    if faults:
        raise Refusal(invalid(faults))
    return pack_words(words)


def _order_fault(given: Set[str]) -> RequestFault:
    """A campaign that would end before it starts."""
    if "end_at" in given:
        return RequestFault("/end_at", "It is not after start_at.")
    return RequestFault("/start_at", "It is not before end_at.")


def _faults(name: str, wanted: CampaignRequest, policy: Policy) -> Iterator[RequestFault]:
    if wanted.route is not None and wanted.route not in policy.routes:
        names = ", ".join(policy.routes)
        yield RequestFault("/route", f"There is no such route; there are: {names}.")
    windows = (*policy.send_windows, NO_WINDOW)
    if wanted.send_window is not None and wanted.send_window not in windows:
        names = ", ".join(windows)
        yield RequestFault("/send_window", f"There is no such send window; there are: {names}.")
    if wanted.holdout_percent and not _holdout(wanted.holdout_percent):
        yield RequestFault("/holdout_percent", HOLDOUT_RULE)
    if wanted.pace is not None and _per_min(wanted.pace) is None:
        yield RequestFault("/pace", PACE_RULE)
    for index, excluded in enumerate(wanted.exclude_campaigns or ()):
        if (excluded := name_of(excluded)) == name or name_fault(excluded):
            detail = f"The name of another campaign: {NAME_RULE}"
            yield RequestFault(f"/exclude_campaigns/{index}", detail)
    if wanted.silent_for is not None and _silent_ms(wanted.silent_for) is None:
        yield RequestFault("/silent_for", SILENT_RULE)


def _holdout(percent: float | None) -> int:
    return round((percent or 0) * HOLDOUT_PARTS / 100)


def _per_min(pace: str | None) -> int | None:
    match = _pace(pace) if pace is not None else None
    per_min = int(match[1]) if match is not None else 0
    return per_min if 1 <= per_min <= PACE_MAX else None


def _silent_ms(silent_for: str | None) -> int | None:
    """None where it is no such length."""
    try:
        length = Duration.parse(silent_for)
    except ValueError:
        return None
    return int(length) if 0 < length <= REMEMBERED_MS else None


def _name_before(cursor: str) -> str | None:
    """The last name of the page before; None for what is no cursor."""
    try:
        return bytes.fromhex(cursor).decode()
    except ValueError:
        return None


def _name(request: Request) -> str:
    """The campaign's name in the path. Raises Refusal."""
    name = name_of(request.parameters["name"])
    if name_fault(name):
        raise Refusal(invalid([RequestFault("/name", NAME_RULE)]))
    return name
