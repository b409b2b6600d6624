"""How a message and a request will fare: pure functions of the seed, the id and the knobs.

Every feature draws from its own word of one hash, so turning one knob never changes what another
one decides, and neither time nor order enters. It never fails.
"""

from __future__ import annotations

import enum
import struct
from hashlib import blake2b
from typing import Final, Literal, TypeVar

import msgspec

from providers.contract import Channel
from providers.simulator.knobs import Knobs, Override
from providers.simulator.vocabulary import Catalogue, Ending

T = TypeVar("T")

_WORD: Final = 2**32
_WORDS: Final = struct.Struct("<14I")


class Fate(msgspec.Struct, frozen=True):
    """A message's whole future: `status` and `error` are catalogue ids, times milliseconds.

    `then_delivered_ms` is None, or how long after an unreached end the message is delivered after
    all.
    """

    ending: Ending
    status: int
    error: int
    receipt_ms: int
    seen_ms: int | None
    early: bool = False
    lost: bool = False
    reordered: bool = False
    repeats: int = 0
    late_ms: int = 0
    then_delivered_ms: int | None = None
    replies: bool = False


class Kind(enum.IntEnum):
    """What can happen to an accepted message: changes of its state, and reports about them."""

    FINISH = 0
    SEE = 1
    REVIVE = 2
    REPORT = 3
    SEEN_REPORT = 4
    REVIVE_REPORT = 5
    INTERMEDIATE_REPORT = 6
    REPLY = 7


RequestFate = Literal["good", "lost", "throttled", "broken", "answer-lost", "garbage"]


class Handling(msgspec.Struct, frozen=True):
    """How one request is treated: `pick` chooses among variants of a fault."""

    fate: RequestFate
    answer_ms: int
    pick: int


def has_channel(knobs: Knobs, channel: Channel, to: str) -> bool:
    """Whether the person behind `to` (digits) has the channel: the same for every message."""
    share = knobs.share(channel)
    return share >= 1 or _words(knobs.seed, channel, to)[0] < share * _WORD


def fate(
    knobs: Knobs,
    catalogue: Catalogue,
    channel: Channel,
    key: str,
    to: str,
    override: Override | None,
) -> Fate:
    """The fate of the message `key` to `to` (digits); `override` is the number's own, if any."""
    words = _words(knobs.seed, channel, key)
    drawn = _drawn(knobs, catalogue, channel, to, words)
    if override is None:
        return drawn
    seen_ms = _between(words[4], knobs.seen_ms_min, knobs.seen_ms_max)
    usual = (drawn.status, drawn.error)
    if override.ending is not None:
        usual = catalogue.usual(override.ending, channel)
    return _overridden(drawn, override, usual, seen_ms)


def handling(knobs: Knobs, key: str, attempt: int) -> Handling:
    """How the `attempt`-th request that starts with `key` is treated: a retry can fare better."""
    words = _words(knobs.seed, f"request {attempt}", key)
    faults: tuple[tuple[RequestFate, float], ...] = (
        ("lost", knobs.lost_share),
        ("throttled", knobs.throttle_share),
        ("broken", knobs.server_error_share),
        ("answer-lost", knobs.answer_lost_share),
        ("garbage", knobs.garbage_share),
    )
    kind: RequestFate = "good"
    for index, (name, share) in enumerate(faults):
        if words[index] < share * _WORD:
            kind = name
            break
    return Handling(
        fate=kind,
        answer_ms=_between(words[6], knobs.answer_ms_min, knobs.answer_ms_max),
        pick=words[7],
    )


def timeline(
    fate: Fate, knobs: Knobs, accepted_ms: int, validity_ms: int, *, intermediate: bool
) -> list[tuple[int, Kind]]:
    """Everything that will happen to the message: (epoch ms, kind), changes before reports.

    Only what an early message owes happens at `accepted_ms` itself, before the send is answered.
    """
    if fate.ending == "rejected":
        return []
    moments: list[tuple[int, Kind]] = []
    expiry_ms = accepted_ms + _expiry(knobs, validity_ms)
    end_ms = expiry_ms
    if fate.ending in ("delivered", "undelivered"):
        end_ms = accepted_ms + (0 if fate.early else max(1, fate.receipt_ms))
    elif fate.ending == "expired" and fate.early:
        end_ms = accepted_ms
    report_ms = end_ms + fate.late_ms
    if fate.ending != "silent":
        moments.append((end_ms, Kind.FINISH))
        if fate.seen_ms is not None:
            seen_ms = end_ms + max(1, fate.seen_ms)
            moments.append((seen_ms, Kind.SEE))
            if not fate.lost:
                moments += _repeated(fate, knobs, seen_ms, Kind.SEEN_REPORT)
            if fate.reordered:
                report_ms = max(report_ms, seen_ms + 1)
        if not fate.lost:
            moments += _repeated(fate, knobs, report_ms, Kind.REPORT)
        if fate.replies:
            moments.append((end_ms + knobs.seen_ms_max + 1, Kind.REPLY))
    if intermediate and not fate.lost:
        at_ms = report_ms + 1 if fate.reordered else min(accepted_ms + 1, end_ms)
        moments.append((at_ms, Kind.INTERMEDIATE_REPORT))
    if fate.then_delivered_ms is not None and fate.ending != "delivered":
        moments += _revival(fate, knobs, end_ms + max(1, fate.then_delivered_ms))
    moments.sort(key=lambda moment: moment[0])
    return moments


def _revival(fate: Fate, knobs: Knobs, revived_ms: int) -> list[tuple[int, Kind]]:
    reports = [] if fate.lost else _repeated(fate, knobs, revived_ms, Kind.REVIVE_REPORT)
    return [(revived_ms, Kind.REVIVE), *reports]


def _repeated(fate: Fate, knobs: Knobs, at_ms: int, kind: Kind) -> list[tuple[int, Kind]]:
    return [(at_ms + n * knobs.repeat_gap_ms, kind) for n in range(fate.repeats + 1)]


def _expiry(knobs: Knobs, validity_ms: int) -> int:
    return max(1, knobs.expiry_ms or validity_ms)


def _drawn(
    knobs: Knobs, catalogue: Catalogue, channel: Channel, to: str, words: tuple[int, ...]
) -> Fate:
    ending, status, error = _end(knobs, catalogue, channel, to, words)
    unreached = ending in ("expired", "silent")
    can_be_seen = channel in catalogue.seen_channels and ending == "delivered"
    seen = can_be_seen and words[2] < knobs.seen_share * _WORD
    return Fate(
        ending=ending,
        status=status,
        error=error,
        receipt_ms=_between(words[3], knobs.receipt_ms_min, knobs.receipt_ms_max),
        seen_ms=_between(words[4], knobs.seen_ms_min, knobs.seen_ms_max) if seen else None,
        early=not unreached and words[5] < knobs.early_share * _WORD,
        lost=words[6] < knobs.receipt_lost_share * _WORD,
        reordered=words[7] < knobs.reordered_share * _WORD,
        repeats=knobs.repeat_times if words[8] < knobs.repeat_share * _WORD else 0,
        late_ms=knobs.late_ms if words[9] < knobs.late_share * _WORD else 0,
        then_delivered_ms=(
            knobs.revive_ms if unreached and words[10] < knobs.revive_share * _WORD else None
        ),
    )


def _end(
    knobs: Knobs, catalogue: Catalogue, channel: Channel, to: str, words: tuple[int, ...]
) -> tuple[Ending, int, int]:
    if words[0] < knobs.reject_share * _WORD:
        status = knobs.reject_status
        usual = catalogue.usual("rejected", channel)
        return "rejected", *((status, 0) if status in catalogue.statuses else usual)
    if not has_channel(knobs, channel, to):
        if knobs.non_viber == "reject" or not catalogue.reports:
            return "rejected", catalogue.unreachable.id, 0
        return "undelivered", knobs.non_viber_status, knobs.non_viber_error
    delivered, undelivered = knobs.delivered(channel), knobs.undelivered(channel)
    ending: Ending = knobs.unreached
    if words[1] < delivered * _WORD:
        ending = "delivered"
    elif words[1] < (delivered + undelivered) * _WORD:
        ending = "undelivered"
    return ending, *catalogue.usual(ending, channel)


def _overridden(drawn: Fate, override: Override, usual: tuple[int, int], seen_ms: int) -> Fate:
    """`usual` are status and error of the ending that the override leaves or names."""
    ending, then_delivered_ms = drawn.ending, drawn.then_delivered_ms
    if override.ending is not None:
        ending, then_delivered_ms = override.ending, None
    status, error = usual
    if override.status is not None:
        status = override.status
    if override.error is not None:
        error = override.error
    seen = drawn.seen_ms is not None if override.seen is None else override.seen
    return Fate(
        ending=ending,
        status=status,
        error=error,
        receipt_ms=_or(override.receipt_ms, drawn.receipt_ms),
        seen_ms=seen_ms if seen and ending == "delivered" else None,
        early=_or(override.early, drawn.early),
        lost=_or(override.lost, drawn.lost),
        reordered=_or(override.reordered, drawn.reordered),
        repeats=_or(override.repeats, drawn.repeats),
        late_ms=_or(override.late_ms, drawn.late_ms),
        then_delivered_ms=_or(override.then_delivered_ms, then_delivered_ms),
        replies=override.reply is not None and ending == "delivered",
    )


def _or(wish: T | None, drawn: T) -> T:
    return drawn if wish is None else wish


def _between(word: int, low: int, high: int) -> int:
    return low + (word * (high - low + 1) >> 32)


def _words(seed: int, what: str, key: str) -> tuple[int, ...]:
    data = f"{what}\n{key}".encode("utf-8", "surrogatepass")
    digest = blake2b(data, digest_size=_WORDS.size, key=seed.to_bytes(8, "little")).digest()
    return _WORDS.unpack(digest)
