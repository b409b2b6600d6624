"""Requests of campaigns that may have so many recipients, and the places there are for them.

A person gets a place before the requests are decided and gives it back where none was accepted, so
that no number of processes accepts more than the campaign may have. Who found none, while a
neighbour gave one back, is decided again. Where it could not be decided nobody knows at once
whether the place is used: that is looked up a minute later, when another request needs one. A
process that dies in between leaves a few places unused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from gateway.core.campaigns.campaigns import Campaign
from gateway.core.records.request import Answer, MessageRequest
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisError
from gateway.store.base import StoreBase, read_messages
from gateway.store.campaigns import declarations
from gateway.store.campaigns.declarations import RecipientsInDoubt
from gateway.store.transaction import TOKEN_MS

TURNS_MAX = 3
DOUBT_MS = TOKEN_MS  # nothing that was on its way is applied later


class Decider(Protocol):
    """Decides requests once, and says which messages it may have made of which campaign."""

    async def decide(self, requests: Sequence[MessageRequest]) -> list[Answer]: ...

    def tried(self) -> dict[str, str | None]: ...


def are_bounded(campaigns: Mapping[str, Campaign], requests: Sequence[MessageRequest]) -> bool:
    """Whether any of them needs a place."""
    return any(_most(campaigns, request) is not None for request in requests)


async def decide(
    store: StoreBase,
    requests: Sequence[MessageRequest],
    decider: Callable[[], Decider],
    now_ms: int,
) -> list[Answer]:
    """One answer each, in order. Raises RedisUnavailable, and what deciding raises."""
    redis, campaigns = store.redis, store.policy.declared.campaigns
    await _settle(store, now_ms)
    answers: dict[int, Answer] = {}
    waiting = dict(enumerate(requests))
    for _ in range(TURNS_MAX):
        places = await _reserve(redis, campaigns, list(waiting.values()))
        placed = [_with_place(request, places) for request in waiting.values()]
        one = decider()
        try:
            told = dict(zip(waiting, await one.decide(placed), strict=True))
        except Exception:
            taken = {campaign: len(people) for campaign, people in places.items()}
            store.declarations.doubts.append(RecipientsInDoubt(now_ms, taken, one.tried()))
            raise
        answers |= told
        free = await _give_back(redis, places, placed, list(told.values()))
        waiting = {
            index: request
            for index, request in waiting.items()
            if told[index].reason == "recipients_max" and free[request.campaign or ""]
        }
        if not waiting:
            break
    return [answers[index] for index in range(len(requests))]


async def _settle(store: StoreBase, now_ms: int) -> None:
    """Gives back the places that turned out to be unused."""
    doubts = store.declarations.doubts
    while doubts and doubts[0].since_ms + DOUBT_MS <= now_ms:
        doubt = doubts.popleft()
        try:
            found = await read_messages(store, doubt.tried)
        except RedisError:
            doubts.appendleft(doubt)
            raise
        used = Counter(doubt.tried[id_] for id_, kept in found.items() if kept.value is not None)
        for campaign, places in doubt.places.items():
            unused = max(places - used[campaign], 0)
            await declarations.give_back(store.redis, campaign, unused)


async def _give_back(
    redis: RedisClient,
    places: Mapping[str, set[str]],
    placed: Sequence[MessageRequest],
    told: Sequence[Answer],
) -> Counter[str]:
    """How many places were not needed, by campaign."""
    used = {
        (request.campaign, request.home)
        for request, answer in zip(placed, told, strict=True)
        if answer.outcome == "accepted" and not answer.replayed
    }
    free: Counter[str] = Counter()
    for campaign, people in places.items():
        free[campaign] = sum((campaign, home) not in used for home in people)
        await declarations.give_back(redis, campaign, free[campaign])
    return free


async def with_room_foreseen(
    redis: RedisClient, campaigns: Mapping[str, Campaign], request: MessageRequest
) -> MessageRequest:
    """The request as it would be decided now; it takes no place. Raises RedisUnavailable."""
    most = _most(campaigns, request)
    if most is None or request.campaign is None:
        return request
    return replace(request, no_room=await declarations.taken(redis, request.campaign) >= most)


async def _reserve(
    redis: RedisClient, campaigns: Mapping[str, Campaign], requests: Sequence[MessageRequest]
) -> dict[str, set[str]]:
    """For whom there is a place in each bounded campaign: one each, however often they stand in
    the batch, the first come first."""
    people: dict[str, dict[str, None]] = {}
    for request in requests:
        if request.campaign is not None and _most(campaigns, request) is not None:
            people.setdefault(request.campaign, {})[request.home] = None
    places: dict[str, set[str]] = {}
    for campaign, homes in people.items():
        most = campaigns[campaign].recipients_max
        assert most is not None
        room = await declarations.reserve(redis, campaign, len(homes), most)
        places[campaign] = set(list(homes)[:room])
    return places


def _with_place(request: MessageRequest, places: Mapping[str, set[str]]) -> MessageRequest:
    people = places.get(request.campaign or "")
    if people is None or request.home in people:
        return request
    return replace(request, no_room=True)


def _most(campaigns: Mapping[str, Campaign], request: MessageRequest) -> int | None:
    campaign = campaigns.get(request.campaign) if request.campaign is not None else None
    return campaign.recipients_max if campaign is not None else None
