"""Who is written to, drawn from a seed: the client sends it, the audit knows it.

A message in 25 repeats another's campaign and person, one in 50 meets a full cap, one in 100 cannot
be accepted; a few numbers lose all their receipts for good, and are named to the simulator.

A lively audience has more of a life: its marketing is of several campaigns, of which some are
paused, cancelled, paced or open later; some messages are for later; some people are stored, and
named by their user alone; a few write back; and of some two numbers it turns out meanwhile that
they are one person's.

Who goes over one of the `WIRES` routes has an e-mail address and a device beside the phone, and
every second of them is sent an SMS of several parts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

DUPLICATES = 0.04
CAPPED = 0.02
INVALID = 0.01
BACK = 400  # how far back a duplicate reaches
LOST_EVERY = 300  # numbers between two whose receipts are lost, at least
LOST_MAX = 500  # such numbers: the simulator is told them on its command line
PHONES = 1_000_000
FIRST_PHONE = 1_000_000
CATEGORIES = ("marketing", "marketing", "marketing", "transactional", "otp")  # of every five people
CAPS = {"marketing": 1, "otp": 2}  # messages a person and day

PAUSED, CANCELLED, PACED, OPENS = "storm-paused", "storm-cancelled", "storm-paced", "storm-opens"
CAMPAIGNS = ("storm", "storm", PAUSED, CANCELLED, PACED, OPENS)
IMPORTANCE = ("normal", "high", "low", "normal")
STORED_EVERY = 30  # people whose user is stored: every tenth of those with one
TWINS_EVERY, TWIN = 50, 7  # of so many, that one turns out to be one person with the next
LATER, LATER_S = 0.03, (2, 8)
ALONE = 0.5  # of a stored user's messages name nothing else
# Over SMPP, over SMPP, over Viber; and of so many one unsubscribes from e-mail.
WRITES_EVERY, WRITES, UNSUBSCRIBES = 100, {5: "STOP", 6: "Спасибо", 12: "STOP"}, 16
HELD = "held: "  # in counts of what was accepted, before the reason
# Routes that are not Infobip's alone: SMPP before its SMS; push, then e-mail, then SMPP.
SESSION, WIDE = "session", "wide"
WIRES = (SESSION, WIDE)
LONG = " долгий разговор" * 10  # three parts, each with an id and a receipt of its own
ROUTES = ("", SESSION, "", WIDE, "")  # of a storm, each person's its own; "" is the category's


def bodies(
    messages: int, seed: int, first: int = 0, routes: Sequence[str] = (), *, lively: bool = False
) -> Iterator[dict[str, Any]]:
    """Request bodies in the order they are sent, each with an idempotency key of its own; the
    people are numbered from `first`. With `routes` each names one, as "<route>-<category>"; an
    empty one is the category's own.
    `send_in_s` of a body is for whoever sends it: `send_at` is so much later."""
    draw = random.Random(f"audience {seed}")
    for number in range(first, first + messages):
        kind = draw.random()
        person = number
        if kind < DUPLICATES + CAPPED and number > first:
            person = number - draw.randint(1, min(BACK, number - first))
        body: dict[str, Any] = {"to": phone(person), "idempotency_key": f"{seed}-{number}"}
        category = category_of(person)
        body |= {"category": category, "text": f"Kaskad {person}"}
        if category == "marketing":
            other = "-again" if DUPLICATES <= kind < DUPLICATES + CAPPED else ""
            body["campaign"] = (campaign_of(person) if lively else CAMPAIGNS[0]) + other
        if route := route_of(person, routes):
            body["route"] = f"{route}-{category}"
        if route in WIRES:
            _widen(body, person)
        if person % 3 == 0:
            body["user"] = user(person)
        if lively:
            _enliven(body, person, draw)
        if kind > 1 - INVALID:
            body["to"] = "+7916"
        yield body


def _widen(body: dict[str, Any], person: int) -> None:
    """The person has a device and an e-mail address as well, and something is said there. To every
    second one more is said by SMS."""
    device = {"kind": "fcm", "token": f"device-{person}"}
    body["to"] = {"phone": phone(person), "email": mail(person), "push": [device]}
    body |= {"email": {"subject": f"Kaskad {person}"}, "push": {"title": "Kaskad"}}
    if person % 2:
        body["sms"] = {"text": f"Kaskad {person}{LONG}"}


def _enliven(body: dict[str, Any], person: int, draw: random.Random) -> None:
    body["importance"] = IMPORTANCE[person % len(IMPORTANCE)]
    if person % TWINS_EVERY == TWIN:
        body["user"] = twin(person)
    if draw.random() < LATER:
        body["send_in_s"] = draw.randint(*LATER_S)
    if person % STORED_EVERY == 0 and draw.random() < ALONE:
        del body["to"]


def category_of(person: int) -> str:
    return CATEGORIES[person % len(CATEGORIES)]


def share_of(campaign: str) -> float:
    """Of all messages, those of one campaign of a lively audience."""
    marketing = CATEGORIES.count("marketing") / len(CATEGORIES)
    return marketing * CAMPAIGNS.count(campaign) / len(CAMPAIGNS)


def route_of(person: int, routes: Sequence[str]) -> str:
    """The person's, as a message names it before the category; "": none."""
    return routes[person // len(CATEGORIES) % len(routes)] if routes else ""


def campaign_of(person: int) -> str:
    return CAMPAIGNS[person // len(CATEGORIES) % len(CAMPAIGNS)]


def phone(person: int) -> str:
    return f"+7916{FIRST_PHONE + person % PHONES:07d}"


def phone_in(to: Any) -> str | None:
    """The phone among the addresses of a request, however it names them."""
    found: str | None = to.get("phone") if isinstance(to, dict) else to
    return found


def mail(person: int) -> str:
    return f"p{person}@shop.example"


def user(person: int) -> str:
    return f"user {person}"


def twin(person: int) -> str:
    return f"twin {person}"


def person_of(to: str | None, named: str | None) -> int:
    """The number of a person, by a phone of `phone` or else by a user."""
    return int(to[-7:]) - FIRST_PHONE if to is not None else int((named or "").split()[-1])


def stored(messages: int, first: int = 0) -> Iterator[dict[str, str]]:
    """The users that are stored before anything is sent."""
    for person in range(first, first + messages):
        if person % STORED_EVERY == 0:
            yield {"user": user(person), "phone": phone(person), "email": mail(person)}


def twins(messages: int, first: int = 0) -> dict[int, dict[str, str]]:
    """By person: the user to be stored by which this and the next are one person."""
    return {
        person: {"user": twin(person), "phone": phone(person + 1)}
        for person in range(first, first + messages)
        if person % TWINS_EVERY == TWIN
    }


def caps_text() -> str:
    """The caps in the configuration."""
    return "".join(
        f'[[caps]]\nname = "{name}-a-day"\ncategory = "{name}"\nlimit = {limit}\nwindow = "1d"\n\n'
        for name, limit in CAPS.items()
    )


def lost_phones(messages: int) -> list[str]:
    """The numbers whose receipts never come."""
    every = max(LOST_EVERY, -(-messages // LOST_MAX))
    return [phone(person) for person in range(every // 2, messages, every)]


def answers(messages: int) -> dict[str, dict[str, dict[str, object]]]:
    """What people do when they are written to, as knobs of their address and its channel."""
    found: dict[str, dict[str, dict[str, object]]] = {}
    for rest, text in WRITES.items():
        reply: dict[str, object] = {"reply": text}
        for person in range(rest, messages, WRITES_EVERY):
            found[phone(person)] = {"viber": reply, "sms": reply}
    for person in range(UNSUBSCRIBES, messages, WRITES_EVERY):
        found[mail(person)] = {"email": {"reply": "unsubscribes"}}
    return found
