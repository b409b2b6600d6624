"""Requests of campaigns that may have so many recipients, and the places there are for them.

A person gets a place before the requests are decided and gives it back where none was accepted, so
that no number of processes accepts more than the campaign may have. Who found none, while a
neighbour gave one back, is decided again. A process that dies in between leaves a few places
unused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec.structs import replace

from gateway.core.campaigns import Campaign
from gateway.core.records.request import Answer, MessageRequest
from gateway.redis.client import RedisClient
from gateway.store import declarations

TURNS_MAX = 3

Decide = Callable[[Sequence[MessageRequest]], Awaitable[list[Answer]]]


def are_bounded(campaigns: Mapping[str, Campaign], requests: Sequence[MessageRequest]) -> bool:
    """Whether any of them needs a place."""
    return any(_most(campaigns, request) is not None for request in requests)


async def decide(
    redis: RedisClient,
    campaigns: Mapping[str, Campaign],
    requests: Sequence[MessageRequest],
    decide_all: Decide,
) -> list[Answer]:
    """One answer each, in order. Raises RedisUnavailable, and what `decide_all` raises: then the
    places stay taken, because nobody knows whether they are."""
    answers: dict[int, Answer] = {}
    waiting = dict(enumerate(requests))
    for _ in range(TURNS_MAX):
        places = await _reserve(redis, campaigns, list(waiting.values()))
        placed = [_with_place(request, places) for request in waiting.values()]
        told = dict(zip(waiting, await decide_all(placed), strict=True))
        answers |= told
        used = {
            (request.campaign, request.home)
            for request, answer in zip(placed, told.values(), strict=True)
            if answer.outcome == "accepted" and not answer.replayed
        }
        free: Counter[str] = Counter()
        for campaign, people in places.items():
            free[campaign] = sum((campaign, home) not in used for home in people)
            await declarations.give_back(redis, campaign, free[campaign])
        waiting = {
            index: request
            for index, request in waiting.items()
            if told[index].reason == "recipients_max" and free[request.campaign or ""]
        }
        if not waiting:
            break
    return [answers[index] for index in range(len(requests))]


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
