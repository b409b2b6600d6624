"""After a storm: does each click that was answered count, once? Pure but for `booked`.

A click is recorded behind its answer, so a worker that is killed loses what it had not recorded
yet. It records in the order in which it answers: what it loses is the last that it answered, and no
older than LOST_MS, unless it said itself that clicks wait (Redis took no writes). One that is asked
to end loses what it could not record in time, and says how much. Whatever else is missing, and all
that counts twice, is a fault. Of clicks without an answer nobody knows.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import redis

from bench.chaos import records

# A batch gathers, and one more is being recorded; each of its calls may take a while in a storm.
LOST_MS = 10_000
ANSWERED, COUNTED, UNANSWERED = "clicks answered", "clicks counted", "clicks without an answer"
KILLED, TOLD = "clicks lost by a kill", "clicks told as lost"
COUNTS = (ANSWERED, COUNTED, KILLED, TOLD, UNANSWERED)
WAIT, LOST = "clicks_wait", "clicks_lost"
_WORKER = re.compile(r'"request_id":"([0-9a-f]{12})-')


class Followed(msgspec.Struct, frozen=True):
    """One link that one worker was asked for: when it answered, and how often it did not."""

    code: str
    worker: str
    answered_ms: list[int]
    unanswered: int


class Said(NamedTuple):
    """What is known of a worker: whether it was killed (-9), and what it said of clicks."""

    killed: bool
    waits: bool
    lost: int


class Found(NamedTuple):
    faults: list[str]
    counts: Counter[str]


def booked(client: redis.Redis) -> Counter[str]:
    """How many clicks of links of their own Redis has, by code, whoever they are of."""
    found: Counter[str] = Counter()
    for key in records.keys_by_kind(client).get("clicks", []):
        code = key.decode().rpartition(":")[2]
        found[code] = sum(map(int, client.hvals(key)))
    return found


def said_in(log: str, *, killed: bool) -> dict[str, Said]:
    """What the log of a process says of the worker that it was; of nothing where it was none."""
    lines = [json.loads(line) for line in log.splitlines() if WAIT in line or LOST in line]
    lost = sum(line["clicks"] for line in lines if line["event"] == LOST)
    said = Said(killed, any(line["event"] == WAIT for line in lines), lost)
    return dict.fromkeys(_WORKER.findall(log), said)


def judged(
    followed: Sequence[Followed], booked: Mapping[str, int], said: Mapping[str, Said]
) -> Found:
    """`followed` in the order of each worker; `said` is by worker."""
    by_worker: defaultdict[str, list[Followed]] = defaultdict(list)
    for link in followed:
        by_worker[link.worker].append(link)
    faults = [
        f"{link.code} was followed {_asked(link)} times and counts {booked[link.code]}"
        for link in followed
        if booked.get(link.code, 0) > _asked(link)
    ]
    counts: Counter[str] = Counter()
    for worker, links in by_worker.items():
        missing, known = list(_missing(links, booked)), said.get(worker, Said(False, False, 0))
        counts[ANSWERED] += sum(len(link.answered_ms) for link in links)
        counts[KILLED if known.killed else TOLD] += len(missing)
        if known.killed:
            faults += _not_the_last(worker, links, booked, missing, known)
        elif len(missing) > known.lost:
            faults.append(
                f"{len(missing)} clicks are lost of {worker}, which tells of {known.lost}"
            )
    counts[UNANSWERED] = sum(link.unanswered for link in followed)
    counts[COUNTED] = sum(booked.get(link.code, 0) for link in followed)
    return Found(faults, counts)


def _asked(link: Followed) -> int:
    return len(link.answered_ms) + link.unanswered


def _missing(links: Sequence[Followed], booked: Mapping[str, int]) -> Iterator[int]:
    """When each click was answered that does not count: of a link the last ones."""
    for link in links:
        yield from link.answered_ms[booked.get(link.code, 0) :]


def _not_the_last(
    worker: str,
    links: Sequence[Followed],
    booked: Mapping[str, int],
    missing: Sequence[int],
    known: Said,
) -> Iterator[str]:
    if not missing:
        return
    lost = False  # something before: nothing that came later counts
    for link in links:
        count = booked.get(link.code, 0)
        if lost and count:
            yield f"{worker} lost clicks and counted later ones, of {link.code}"
        lost = lost or count < len(link.answered_ms)
    last_ms = max(at_ms for link in links for at_ms in link.answered_ms)
    if last_ms - missing[0] > LOST_MS and not known.waits:
        yield f"{worker} lost clicks of {last_ms - missing[0]} ms before its last answer"
