"""How a message and a request will fare: pure functions of the seed, the id and the knobs.

Every feature draws from its own word of one hash, so turning one knob never changes what another
one decides, and neither time nor order enters. Habits of people, where there are any, stand in the
place of the shares of who has a channel and who sees. It never fails.
"""

from __future__ import annotations

import enum
from typing import Literal, TypeVar

import msgspec

from providers.contract import Channel
from providers.simulator.draws import between, drawn, happens
from providers.simulator.habits import Manner, person_at
from providers.simulator.knobs import Knobs, Override
from providers.simulator.vocabulary import Catalogue, Ending

T = TypeVar("T")

# How long after its delivery a message is seen, clicked, answered, and complained of.
Acts = tuple[int | None, int | None, int | None, int | None]


class Fate(msgspec.Struct, frozen=True):
    """A message's whole future: `status` and `error` are catalogue ids, times milliseconds.

    `then_delivered_ms` is None, or how long after an unreached end the message is delivered after
    all; `seen_ms`, `clicked_ms`, `reply_ms` and `complaint_ms` are None, or how long after its end
    that happens.
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
    clicked_ms: int | None = None
    reply_ms: int | None = None
    complaint_ms: int | None = None


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
    CLICK = 8
    COMPLAINT = 9


RequestFate = Literal["good", "lost", "throttled", "broken", "answer-lost", "garbage"]


class Handling(msgspec.Struct, frozen=True):
    """How one request is treated: `pick` chooses among variants of a fault."""

    fate: RequestFate
    answer_ms: int
    pick: int


def has_channel(knobs: Knobs, channel: Channel, to: str) -> bool:
    """Whether the person behind `to` (digits) has the channel: the same for every message."""
    if knobs.people:
        return channel in person_at(knobs.seed, knobs.people, to).kind.on
    share = knobs.share(channel)
    return share >= 1 or happens(drawn(knobs.seed, channel, to)[0], share)


def reply_of(knobs: Knobs, channel: Channel, to: str, override: Override | None) -> str:
    """What the person behind `to` writes back to a message that it answers."""
    if override is not None and override.reply is not None:
        return override.reply
    manner = _manner(knobs, channel, to)
    return manner.reply or "" if manner is not None else ""


def fate(
    knobs: Knobs,
    catalogue: Catalogue,
    channel: Channel,
    key: str,
    to: str,
    override: Override | None,
) -> Fate:
    """The fate of the message `key` to `to` (digits); `override` is the number's own, if any."""
    words = drawn(knobs.seed, channel, key)
    plain = _plain(knobs, catalogue, channel, to, words)
    if override is None:
        return plain
    usual = (plain.status, plain.error)
    if override.ending is not None:
        usual = catalogue.usual(override.ending, channel)
    complaint_ms = _complaint_ms(knobs, channel, words)
    acts = (plain.seen_ms, plain.clicked_ms, plain.reply_ms, complaint_ms)
    if knobs.people and override.ending == "delivered":
        acts = _reactions(knobs, catalogue, channel, to, words)
    return _overridden(plain, override, usual, acts, _seen_ms(knobs, words), knobs.seen_ms_max + 1)


def handling(knobs: Knobs, key: str, attempt: int) -> Handling:
    """How the `attempt`-th request that starts with `key` is treated: a retry can fare better."""
    words = drawn(knobs.seed, f"request {attempt}", key)
    faults: tuple[tuple[RequestFate, float], ...] = (
        ("lost", knobs.lost_share),
        ("throttled", knobs.throttle_share),
        ("broken", knobs.server_error_share),
        ("answer-lost", knobs.answer_lost_share),
        ("garbage", knobs.garbage_share),
    )
    kind: RequestFate = "good"
    for index, (name, share) in enumerate(faults):
        if happens(words[index], share):
            kind = name
            break
    return Handling(
        fate=kind,
        answer_ms=between(words[6], knobs.answer_ms_min, knobs.answer_ms_max),
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
        acts = (
            (fate.clicked_ms, Kind.CLICK),
            (fate.reply_ms, Kind.REPLY),
            (fate.complaint_ms, Kind.COMPLAINT),
        )
        moments += [(end_ms + after_ms, kind) for after_ms, kind in acts if after_ms is not None]
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


def _plain(
    knobs: Knobs, catalogue: Catalogue, channel: Channel, to: str, words: tuple[int, ...]
) -> Fate:
    """The fate of a message to a number that has no override."""
    ending, status, error = _end(knobs, catalogue, channel, to, words)
    unreached = ending in ("expired", "silent")
    acts: Acts = (None, None, None, None)
    if ending == "delivered":
        acts = _reactions(knobs, catalogue, channel, to, words)
    seen_ms, clicked_ms, reply_ms, complaint_ms = acts
    return Fate(
        ending=ending,
        status=status,
        error=error,
        receipt_ms=between(words[3], knobs.receipt_ms_min, knobs.receipt_ms_max),
        seen_ms=seen_ms,
        early=not unreached and happens(words[5], knobs.early_share),
        lost=happens(words[6], knobs.receipt_lost_share),
        reordered=happens(words[7], knobs.reordered_share),
        repeats=knobs.repeat_times if happens(words[8], knobs.repeat_share) else 0,
        late_ms=knobs.late_ms if happens(words[9], knobs.late_share) else 0,
        then_delivered_ms=(
            knobs.revive_ms if unreached and happens(words[10], knobs.revive_share) else None
        ),
        clicked_ms=clicked_ms,
        reply_ms=reply_ms,
        complaint_ms=complaint_ms,
    )


def _reactions(
    knobs: Knobs, catalogue: Catalogue, channel: Channel, to: str, words: tuple[int, ...]
) -> Acts:
    """What the person does with a message that is delivered."""
    shown = channel in catalogue.seen_channels
    complaint_ms = _complaint_ms(knobs, channel, words)
    if not knobs.people:
        seen = shown and happens(words[2], knobs.seen_share)
        return (_seen_ms(knobs, words) if seen else None), None, None, complaint_ms
    person = person_at(knobs.seed, knobs.people, to)
    manner = person.kind.on.get(channel)
    if manner is None or not happens(words[2], manner.reads):
        return None, None, None, complaint_ms
    read_ms = max(1, person.read_ms(manner))
    answers = manner.reply is not None and happens(words[12], manner.replies)
    return (
        read_ms if shown and not manner.hides else None,
        read_ms + 1 if happens(words[11], manner.clicks) else None,
        read_ms + 2 if answers else None,
        complaint_ms,
    )


def _manner(knobs: Knobs, channel: Channel, to: str) -> Manner | None:
    return person_at(knobs.seed, knobs.people, to).kind.on.get(channel) if knobs.people else None


def _seen_ms(knobs: Knobs, words: tuple[int, ...]) -> int:
    return between(words[4], knobs.seen_ms_min, knobs.seen_ms_max)


def _complaint_ms(knobs: Knobs, channel: Channel, words: tuple[int, ...]) -> int | None:
    complains = happens(words[13], knobs.complained(channel))
    return _seen_ms(knobs, words) + 1 if complains else None


def _end(
    knobs: Knobs, catalogue: Catalogue, channel: Channel, to: str, words: tuple[int, ...]
) -> tuple[Ending, int, int]:
    if happens(words[0], knobs.reject_share):
        status = knobs.reject_status
        usual = catalogue.usual("rejected", channel)
        return "rejected", *((status, 0) if status in catalogue.statuses else usual)
    if not has_channel(knobs, channel, to):
        if knobs.non_viber == "reject" or not catalogue.reports:
            return "rejected", catalogue.unreachable.id, 0
        absent = catalogue.absent or (knobs.non_viber_status, knobs.non_viber_error)
        return "undelivered", *absent
    delivered, undelivered = knobs.delivered(channel), knobs.undelivered(channel)
    ending: Ending = knobs.unreached
    if happens(words[1], delivered):
        ending = "delivered"
    elif happens(words[1], delivered + undelivered):
        ending = "undelivered"
    return ending, *catalogue.usual(ending, channel)


def _overridden(
    plain: Fate,
    override: Override,
    usual: tuple[int, int],
    acts: Acts,
    look_ms: int,
    reply_ms: int,
) -> Fate:
    """`usual` are status and error of the ending that the override leaves or names, `acts` what the
    person does; `look_ms` and `reply_ms`: when, where the override says that it does."""
    ending, then_delivered_ms = plain.ending, plain.then_delivered_ms
    if override.ending is not None:
        ending, then_delivered_ms = override.ending, None
    status, error = usual
    if override.status is not None:
        status = override.status
    if override.error is not None:
        error = override.error
    if ending != "delivered":
        acts = (None, None, None, None)
    seen_ms, clicked_ms, replied_ms, complaint_ms = acts
    if override.seen is not None:
        seen_ms = look_ms if override.seen and ending == "delivered" else None
    if override.reply is not None:
        replied_ms = reply_ms if ending == "delivered" else None
    return Fate(
        ending=ending,
        status=status,
        error=error,
        receipt_ms=_or(override.receipt_ms, plain.receipt_ms),
        seen_ms=seen_ms,
        early=_or(override.early, plain.early),
        lost=_or(override.lost, plain.lost),
        reordered=_or(override.reordered, plain.reordered),
        repeats=_or(override.repeats, plain.repeats),
        late_ms=_or(override.late_ms, plain.late_ms),
        then_delivered_ms=_or(override.then_delivered_ms, then_delivered_ms),
        clicked_ms=clicked_ms,
        reply_ms=replied_ms,
        complaint_ms=complaint_ms,
    )


def _or(wish: T | None, drawn: T) -> T:
    return drawn if wish is None else wish
