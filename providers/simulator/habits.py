"""People with habits: who has which channel, reads after how long, shows it, clicks, writes back.

A kind of people is a share of all, with a manner on each channel that they have. Of which kind a
person is, and how soon it reads, follow from the seed and its address alone, so that all twins and
whoever asks `person_at` agree. What becomes of one message is drawn by its id, in `fate`. Pure.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from providers.contract import Channel
from providers.simulator.draws import between, drawn, happens
from providers.simulator.ranges import Millis, Share

_ROUNDING: Final = 0.000_001


class Manner(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What people do with what is delivered to them on a channel: they read the share `reads` of
    it, so long after the delivery (unless `hides`, a channel that can shows it as seen); they click
    in the share `clicks` of what they read, and answer the share `replies` of it with `reply`."""

    reads: Share = 1.0
    read_ms_min: Millis = 200
    read_ms_max: Millis = 2_000
    hides: bool = False
    clicks: Share = 0.0
    reply: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    replies: Share = 1.0


class People(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of people: this share of all, `on` the channels that they have."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    share: Share
    on: dict[Channel, Manner]


class Person(NamedTuple):
    """Somebody behind an address; `pace` is how soon it reads among those of its kind."""

    kind: People
    pace: int

    def read_ms(self, manner: Manner) -> int:
        """How long after a delivery it reads."""
        return between(self.pace, manner.read_ms_min, manner.read_ms_max)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    people: list[People]


def person_at(seed: int, people: Sequence[People], address: str) -> Person:
    """Who is behind an address (a phone in digits), among at least one kind."""
    which, pace, *_ = drawn(seed, "habits", address)
    upto = 0.0
    for kind in people:
        upto += kind.share
        if happens(which, upto):
            return Person(kind, pace)
    return Person(people[-1], pace)


def read_people(text: str) -> list[People]:
    """Kinds of people as TOML, a table `[[people]]` each. Raises ValueError with a sentence."""
    return msgspec.convert(tomllib.loads(text), _File).people


def people_problem(people: Sequence[People], channels: Sequence[Channel]) -> tuple[str, str] | None:
    """What no single range can say: where it is, and what to write instead."""
    for index, kind in enumerate(people):
        for channel, manner in kind.on.items():
            where = f"[{index}].on.{channel}"
            if channel not in channels:
                return where, f"There is no channel {channel!r}."
            if manner.read_ms_min > manner.read_ms_max:
                return f"{where}.read_ms_min", "Must not be above read_ms_max."
    if people and abs(sum(kind.share for kind in people) - 1) > _ROUNDING:
        return "", "The shares of all kinds must add up to 1."
    return None
