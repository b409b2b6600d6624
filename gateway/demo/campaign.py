"""What the demo sends: the campaign file's messages, spread over as many people as asked for.

Pure: the same seed gives the same traffic. The mix is who gets a campaign twice, over another
app, under another phone with the same user id, over a cap, or against an opt-out, and how many
codes and receipts of payment travel in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from gateway.demo.numbers import COMMON, Numbers

SHOP = "shop"
CLUB = "club"  # a second app with a part of the campaign

# Of a hundred: messages that are posted one by one, people who opted out, and what follows a
# person's message that the gateway must hold back.
SINGLE_PERCENT = 8
OPTED_OUT_PERCENT = 1
SECONDS = {"none": 89, "twice": 4, "other app": 2, "other phone": 2, "over the cap": 3}
CLUB_PERCENT = 15
SILENT_PERCENT = 1  # people whose first channel never answers, so that only the timer helps
SILENT_MAX = 200
SPARE, SPARE_IN = 120, "GB"

_code = re.compile(r"\b[0-9]{6}\b")

MessageTemplate = Mapping[str, Any]
PostBody = dict[str, Any]


class Traffic(msgspec.Struct, frozen=True):
    """`streams` are NDJSON lines by app, `posts` single bodies of SHOP, all ready to send.

    `opted_out` are phones to opt out first; `silent` those whose first channel never answers;
    `spare` those of people who get none of it.
    """

    streams: dict[str, list[bytes]]
    posts: list[bytes]
    opted_out: list[str]
    silent: list[str]
    spare: list[str]

    @property
    def messages(self) -> int:
        return len(self.posts) + sum(map(len, self.streams.values()))


def read_templates(octets: bytes) -> list[MessageTemplate]:
    """The campaign file: one send request a line. Raises msgspec.DecodeError."""
    return [msgspec.json.decode(line, type=dict[str, Any]) for line in octets.splitlines() if line]


def expand(templates: Sequence[MessageTemplate], messages: int, seed: int) -> Traffic:
    """Exactly `messages` requests to people who do not exist."""
    return _Expansion(templates, Random(seed)).run(messages)


class _Expansion:
    def __init__(self, templates: Sequence[MessageTemplate], random: Random) -> None:
        self._random = random
        self._numbers = Numbers(random)
        self._people = 0
        self._marketing = _by_language(t for t in templates if t["category"] == "marketing")
        self._single = _by_language(t for t in templates if t["category"] != "marketing")
        spare = [self._numbers.take(SPARE_IN) for _ in range(SPARE)]
        self._traffic = Traffic({SHOP: [], CLUB: []}, [], [], [], spare)

    def run(self, messages: int) -> Traffic:
        traffic = self._traffic
        while traffic.messages < messages:
            if self._happens(SINGLE_PERCENT):
                traffic.posts.append(_encode(self._single_body()))
            else:
                self._marketing_bodies(room=messages - traffic.messages)
        return traffic

    def _single_body(self) -> PostBody:
        country = self._numbers.country()
        body = self._addressed(self._single[_language(country)], country)
        if body["category"] == "otp":
            code = f"{self._random.randrange(1_000_000):06d}"
            body["text"] = _code.sub(code, body["text"])
        return body

    def _marketing_bodies(self, room: int) -> None:
        """One person's message and, for some, the one that must not reach them."""
        country = self._numbers.country()
        body = self._addressed(self._marketing[_language(country)], country)
        app = CLUB if self._happens(CLUB_PERCENT) else SHOP
        traffic = self._traffic
        traffic.streams[app].append(_encode(body))
        if self._happens(OPTED_OUT_PERCENT):
            traffic.opted_out.append(body["to"])
            return
        if self._happens(SILENT_PERCENT) and len(traffic.silent) < SILENT_MAX:
            traffic.silent.append(body["to"])
        second = self._second(body, app) if room > 1 else None
        if second is not None:
            traffic.streams[second[0]].append(_encode(second[1]))

    def _second(self, body: PostBody, app: str) -> tuple[str, PostBody] | None:
        """The same thing once more, in one of the ways that happen, or nothing."""
        kind = self._random.choices(list(SECONDS), list(SECONDS.values()))[0]
        if kind == "none":
            return None
        if kind == "twice":
            return app, body
        if kind == "other app":
            return (SHOP if app == CLUB else CLUB), body
        if kind == "other phone":
            return app, body | {"to": self._numbers.take(COMMON)}
        others = [
            t
            for t in self._marketing[body["metadata"]["lang"]]
            if t["campaign"] != body["campaign"]
        ]
        other = dict(self._random.choice(others))
        return app, other | {"to": body["to"], "user": body["user"]}

    def _addressed(self, templates: Sequence[MessageTemplate], country: str) -> PostBody:
        self._people += 1
        body = dict(self._random.choice(templates))
        return body | {"to": self._numbers.take(country), "user": f"u{self._people}"}

    def _happens(self, percent: int) -> bool:
        return self._random.randrange(100) < percent


def _by_language(templates: Iterable[MessageTemplate]) -> dict[str, list[MessageTemplate]]:
    found: dict[str, list[MessageTemplate]] = {}
    for template in templates:
        found.setdefault(template["metadata"]["lang"], []).append(template)
    return found


def _language(country: str) -> str:
    return "ru" if country == "RU" else "en"


def _encode(body: PostBody) -> bytes:
    return msgspec.json.encode(body)
