"""What the tour shows after the campaign, each on a few people: a cascade by reaction, somebody's
own order of channels, a send window that holds, a pause and a resume, a route over many channels.

An act plays on the stage through the API, waits until its messages are final, and returns what was
to be seen. Raises CampaignFailed where something does not come about.
"""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from operator import itemgetter
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from gateway.demo.api import Api, CampaignFailed
from gateway.demo.audience import Audience
from gateway.demo.campaign import SHOP, PostBody
from gateway.demo.cast import Cast
from gateway.demo.configuration import BEST, REACTIONS, WINDOW, alone
from gateway.demo.looking import looks
from gateway.demo.reach import ReachShown, bodies, reach_of
from gateway.demo.stage import Stage
from gateway.demo.visitors import Visitors

First = Literal["seen", "unseen", "unreached"]

WAIT_S = 30.0
HISTORY = 5  # messages over each channel alone, by which somebody gets to be known
REMINDER, OWN_ORDER, NIGHT, PAUSED = "basket-reminder", "own-order", "night-sale", "paused-sale"
ON_ITS_WAY = "Order {0} is on its way: https://shop.example/orders/{0}"
TEXT = "Your basket waits until midnight: https://shop.example/basket"
PAUSED_TEXT = "Ten per cent off until Sunday with your code {{code}}: https://shop.example/sale"
# Somewhere it is night, and somewhere day.
ZONES = (
    *("Pacific/Auckland", "Asia/Tokyo", "Asia/Novosibirsk", "Europe/Moscow", "Europe/London"),
    *("America/New_York", "America/Los_Angeles", "Pacific/Honolulu"),
)
NIGHT_HOUR, DAY_HOUR = 3, 15
FIRST: tuple[First, ...] = ("seen", "unseen", "unreached")
IMPORTANCE = ("high", "normal")


class WayOutcome(msgspec.Struct, frozen=True):
    """How many messages took a way: what came of the first step, and whether a second followed."""

    first: First
    second: bool
    important: int
    others: int


class Reactions(msgspec.Struct, frozen=True):
    """A campaign by a cascade that ends with a reaction; `steps` are its channels."""

    steps: list[str]
    outcomes: list[WayOutcome]


class OwnStep(msgspec.Struct, frozen=True):
    """A channel of somebody: what is known, and why it stands where it does."""

    channel: str
    exposures: int
    reactions: int
    why: str


class OwnOrder(msgspec.Struct, frozen=True):
    """The order of one person's message, beside the `written` one."""

    phone: str
    written: list[str]
    steps: list[OwnStep]


class Window(msgspec.Struct, frozen=True):
    """A message that is held until morning, and one of the same campaign that is not."""

    asleep: str
    asleep_clock: str
    held_until: str
    held_until_clock: str
    held_reason: str
    awake: str
    awake_clock: str
    awake_status: str


class PauseShown(msgspec.Struct, frozen=True):
    """A campaign that was paused before its messages came, and then resumed."""

    messages: int
    held: int
    sent_meanwhile: int
    seconds: float  # from the resume until the last one was final
    delivered: int


Act = Reactions | OwnOrder | Window | PauseShown | ReachShown


class Acts:
    """The acts on one stage. `cast` are people who got nothing else."""

    def __init__(self, place: Stage, audience: Audience, cast: Cast, visitors: Visitors) -> None:
        self._place = place
        self._audience = audience
        self._cast = cast
        self._visitors = visitors
        self._api: Api = place.api(SHOP)

    def play(self) -> Iterator[Act]:
        """All of them, in order; the others while the first and the last wait for people."""
        reminders = self._remind()
        news = list(bodies(self._place.additions.message, self._cast.reached))
        told = self._send(news)
        others = (self._own_order(), self._window(), self._pause())
        yield self._reactions(reminders)
        yield from others
        yield reach_of(news, self._finals(told), self._place.settings.prices.currency)

    def _remind(self) -> list[str]:
        """Every other one is important."""
        return self._send(
            _body(phone, REMINDER, route=REACTIONS, importance=IMPORTANCE[n % 2])
            for n, phone in enumerate(self._cast.reminded)
        )

    def _reactions(self, ids: Sequence[str]) -> Reactions:
        """Seen on the first channel: nothing more. Not seen: the second, if it is important."""
        messages = self._finals(ids)
        counts = Counter((*way_of(each), each["importance"]) for each in messages)
        ways = sorted({way[:2] for way in counts}, key=lambda way: (FIRST.index(way[0]), way[1]))
        outcomes = [WayOutcome(*way, *(counts[*way, one] for one in IMPORTANCE)) for way in ways]
        return Reactions([step["channel"] for step in messages[0]["steps"]], outcomes)

    def _own_order(self) -> OwnOrder:
        """Somebody who reacts on the dear channel alone gets that one first."""
        channels, phone = self._place.channels, self._cast.known
        for channel in channels:
            texts = [ON_ITS_WAY.format(number) for number in range(HISTORY)]
            self._finals(
                self._send(
                    {"to": phone, "user": phone, "category": "transactional", "text": text}
                    | {"route": alone(channel)}
                    for text in texts
                )
            )
        self._place.simulator.flush(everything=True)
        clicks = [click for click in self._visitors.follow() if click.to == phone[1:]]
        known = self._known(phone, len(clicks))
        (id_,) = self._send([_body(phone, OWN_ORDER, route=BEST)])
        plan = self._api.call("GET", f"/v1/messages/{id_}/explain")["plan"]
        self._finals([id_])
        steps = [
            OwnStep(
                channel=step["channel"],
                exposures=round(known[step["channel"]]["exposures"]),
                reactions=round(known[step["channel"]]["reactions"]),
                why=step["detail"] or "",
            )
            for step in plan
        ]
        return OwnOrder(phone, list(channels), steps)

    def _known(self, phone: str, clicks: int) -> dict[str, Any]:
        """What is known of the person by channel, once so many clicks are."""
        for late in looks(WAIT_S):
            user = self._api.call("GET", f"/v1/users/{phone.replace('+', '%2B')}")
            known: dict[str, Any] = user["channels"]
            if late or sum(round(each["reactions"]) for each in known.values()) >= clicks:
                break
        return known

    def _window(self) -> Window:
        """The same campaign where it is night, and where it is day."""
        self._api.call("PUT", f"/v1/campaigns/{NIGHT}", {"send_window": WINDOW})
        now = datetime.datetime.now(datetime.UTC)
        asleep, awake = (zone_at(hour, now) for hour in (NIGHT_HOUR, DAY_HOUR))
        held, sent = self._send(
            _body(phone, NIGHT, tz=zone)
            for phone, zone in zip(self._cast.two_zones, (asleep, awake), strict=True)
        )
        (there,) = self._finals([sent])
        waiting = self._api.call("GET", f"/v1/messages/{held}")["held"]
        if waiting is None:
            raise CampaignFailed(f"A message to {asleep} is not held at night.")
        self._api.call("DELETE", f"/v1/messages/{held}")
        self._finals([held])
        return Window(
            asleep=asleep,
            asleep_clock=clock(asleep, now),
            held_until=waiting["until"],
            held_until_clock=clock(asleep, datetime.datetime.fromisoformat(waiting["until"])),
            held_reason=waiting["reason"],
            awake=awake,
            awake_clock=clock(awake, now),
            awake_status=there["status"],
        )

    def _pause(self) -> PauseShown:
        """Nothing of a paused campaign starts; resumed, it goes on. The campaign has the words, its
        messages bring what is filled in."""
        path = f"/v1/campaigns/{PAUSED}"
        said = {"category": "marketing", "content": {"text": PAUSED_TEXT}}
        self._api.call("PUT", path, {"state": "paused", **said})
        ids = self._send(
            {"to": phone, "user": phone, "campaign": PAUSED, "vars": {"code": f"N{number}"}}
            for number, phone in enumerate(self._cast.paused)
        )
        counts = self._api.call("GET", path)["counts"]
        began = time.monotonic()
        self._api.call("PUT", path, {"state": "running"})
        messages = self._finals(ids)
        arrived = sum(each["billing"] is not None for each in messages)
        seconds = time.monotonic() - began
        return PauseShown(len(ids), counts["held"], counts["sent"], round(seconds, 1), arrived)

    def _send(self, bodies: Iterable[PostBody]) -> list[str]:
        """Sends messages that must be accepted; returns their ids, in order."""
        ids: list[str] = []

        def answer(shape: dict[str, Any]) -> None:
            self._audience.answer(shape)
            if shape["outcome"] != "accepted":
                raise CampaignFailed(f"A message was not accepted: {shape}")
            ids.append(shape["id"])

        self._api.stream(map(msgspec.json.encode, bodies), answer)
        return ids

    def _finals(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The messages, once they are final."""
        found: list[dict[str, Any]] = []
        for late in looks(WAIT_S):
            left = (self._api.call("GET", f"/v1/messages/{id_}") for id_ in ids[len(found) :])
            found += takewhile(itemgetter("final"), left)
            if len(found) == len(ids):
                break
            self._place.check()
            if late:
                id_ = ids[len(found)]
                raise CampaignFailed(f"Message {id_} is not final yet.{self._place.last()}")
        return found


def way_of(message: dict[str, Any]) -> tuple[First, bool]:
    """What came of the first step, and whether a second was sent."""
    first, *later = message["steps"]
    came: First = "unreached"
    if first["delivered_at"] is not None:
        came = "unseen" if first["seen_at"] is None else "seen"
    return came, any(step["sent_at"] is not None for step in later)


def _body(phone: str, campaign: str, **more: str) -> PostBody:
    fields = {"to": phone, "user": phone, "category": "marketing", "campaign": campaign}
    return fields | {"text": TEXT} | more


def zone_at(hour: int, now: datetime.datetime) -> str:
    """The zone in which it is nearest to that hour."""

    def off_by(zone: str) -> float:
        there = now.astimezone(ZoneInfo(zone))
        hours = abs(there.hour + there.minute / 60 - hour)
        return min(hours, 24 - hours)

    return min(ZONES, key=off_by)


def clock(zone: str, now: datetime.datetime) -> str:
    return f"{now.astimezone(ZoneInfo(zone)):%H:%M}"
