"""Requests of campaigns that may have so many recipients, and the places there are for them.

A request gets its place before it is decided and gives it back where it was not accepted, so that
no number of processes accepts more than the campaign may have. Who found none, while a neighbour
gave one back, is decided again. A process that dies in between leaves a few places unused.
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
        placed = await _placed(redis, campaigns, list(waiting.values()))
        told = dict(zip(waiting, await decide_all(placed), strict=True))
        answers |= told
        free = Counter(
            request.campaign
            for request, answer in zip(placed, told.values(), strict=True)
            if _most(campaigns, request) is not None and not request.no_room
            if answer.outcome != "accepted" or answer.replayed
        )
        for campaign, unused in free.items():
            assert campaign is not None
            await declarations.give_back(redis, campaign, unused)
        waiting = {
            index: request
            for index, request in waiting.items()
            if told[index].reason == "recipients_max" and free[request.campaign]
        }
        if not waiting:
            break
    return [answers[index] for index in range(len(requests))]


async def _placed(
    redis: RedisClient, campaigns: Mapping[str, Campaign], requests: Sequence[MessageRequest]
) -> list[MessageRequest]:
    """The requests, the first of each campaign with a place as long as there are any."""
    wanted = Counter(r.campaign for r in requests if _most(campaigns, r) is not None)
    room: Counter[str | None] = Counter()
    for campaign, count in wanted.items():
        assert campaign is not None
        most = campaigns[campaign].recipients_max
        assert most is not None
        room[campaign] = await declarations.reserve(redis, campaign, count, most)
    placed = []
    for request in requests:
        if request.campaign in wanted:
            room[request.campaign] -= 1
            request = replace(request, no_room=room[request.campaign] < 0)
        placed.append(request)
    return placed


def _most(campaigns: Mapping[str, Campaign], request: MessageRequest) -> int | None:
    campaign = campaigns.get(request.campaign) if request.campaign is not None else None
    return campaign.recipients_max if campaign is not None else None
