"""Scenarios of the cascade as text tables: one event a row, and the state it leaves.

A table begins with its name in brackets, and may say its terms in lines `key: value`. Then a row is

    event | statuses of the steps | what else holds

    claimed 0                    a dispatcher takes the step from its lane
    claimed 0 away               ... whose provider is away, and every other with it
    claimed 0 away=viber,sms     ... and who else is; likewise of `refused`, `not-sent`, `not-known`
    claimed 0 restored=1s        ... and the data was restored from a backup at that moment
    accepted 0 again             the provider takes it; `again`: it had the reference before
    accepted 0 delivered         ... and says no more: the step counts as delivered
    refused 0 for-good           or `for-now`; `nobody`: the address reaches nobody on its channel
    not-sent 0                   the connection failed
    put-back 0 refused           put back unsent; `refused`: the provider saw the reference
    lost 0                       the answer was lost
    not-known 0                  asked, the provider does not know it
    report 0 delivered cost=0.5  a receipt; of step 1: `report 1`; fault=nobody as above
    report 0 delivered at=1m     ... of that moment
    report 0 sent by=viber#1     ... of a reference of that series, by that provider
    report 0 delivered part=a    ... of that part alone; or loose=a, whose text was refused
    accepted 0 series=1          ... likewise
    accepted 0 ids=a,b           ... under an id a part
    parts 0 a b                  it took these parts of a text, and the rest not; or series=1
    timer                        time goes on to the message's timer, which fires
    timer viber=2m               ... while a provider is away, since that moment
    reacted 0 clicked            the person reacted to the step: `seen`, `replied`, `clicked`
    released                     the moment came until which the step was held
    cancelled                    the app cancels
    gone viber                   nobody sends for the provider any more
    opted-out 0 all              claimed, and the person opted out of `marketing` or `all`
    opted-out 0 viber=all        ... on one channel
    wait 16m                     time goes on, and nothing happens

What else holds is said in words with a semicolon between: `message sent`, `reason ttl`, `closed`,
`open`, `held`, `free`, `lane sms`, `due 15m10s` (from the first moment), `due-within 1s 2s`,
`look-up`, `submitted 1` (sends so far), `first-delivery 0` (the step), `fault 0 7002` (also why it
was skipped), `attempt 0 lost=1`, `slot viber 0s` (the person's only one: its channel and when it
was taken), `slots viber sms` (the channels of all), `legs 0 1` (of each step), `reaction seen`,
`fallback viber sms no_reaction` (what followed what, and why), `told delivered` (an event without a
change of status), `nobody-at viber` and `reached-at viber` (what is remembered of the person), and
`provider 0 viber-2` (who has the step, or is to have it), and any measure with the sum that is
booked, over all channels (`billed 9000`), of one (`viber undelivered 1`), or of one provider (`by
viber-2 cost 6000`). In the term `nobody-at: viber` it is known of the person before the message is
sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from gateway.core import events
from gateway.core.channels import CHANNELS, Until
from gateway.core.effects import MEASURES, Effects
from gateway.core.people.reach import learn
from gateway.core.policy import RouteStep
from gateway.core.records.message import MESSAGE_NAMES
from gateway.core.records.person import Person
from gateway.core.records.words import REACTION_NAMES
from gateway.store.people.opt_outs import scopes_in
from providers.contract import Fault
from ratelimit.caps import Cap
from tests.worlds.cascade_world import DAY, PRICES, T0, World, policy, request

FAULTS = {
    "for-now": Fault("20", "REJECTED_FLOODING_FILTER", False),
    "for-good": Fault("7002", "EC_UNKNOWN_USER", True),
    "nobody": Fault("7002", "EC_UNKNOWN_USER", True),
}
NO_CONNECTION = Fault("connect", "connection refused", False)
EVENTS: dict[str, Callable[[int, list[str]], events.Event]] = {
    "claimed": lambda step, said: events.Claimed(
        step, away=_away(said), restored_ms=_restored_ms(said)
    ),
    "opted-out": lambda step, said: events.Claimed(step, scopes_in(" ".join(said).encode())),
    "accepted": lambda step, said: events.Accepted(
        step,
        next(iter(_ids(said)), None),
        again="again" in said,
        delivered="delivered" in said,
        series=_series(said),
        further_ids=_ids(said)[1:],
    ),
    "parts": lambda step, said: events.LooseParts(
        step, tuple(word for word in said if "=" not in word), _series(said) or 0
    ),
    "refused": lambda step, said: events.StepRefused(
        step, FAULTS[said[0]], said[0] == "nobody", _away(said)
    ),
    "not-sent": lambda step, said: events.StepNotSent(step, NO_CONNECTION, _away(said)),
    "put-back": lambda step, said: events.PutBack(step, refused="refused" in said),
    "reacted": lambda step, said: msgspec.convert(
        {"step": step, "kind": said[0], "at_ms": 0}, events.Reacted
    ),
    "replied": lambda step, said: events.Replied(step, T0 + milliseconds(said[0])),
    "lost": lambda step, _: events.LostAnswer(step),
    "not-known": lambda step, said: events.NotKnown(step, _away(said)),
}
UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
POLICY_TERMS: dict[str, Callable[[str], Any]] = {
    "attempts_max": int,
    "charged_on": str,
    "resend_unknown": lambda text: text == "yes",
    "when_away": str,
    "caps": lambda _: (Cap("day", 2, DAY, "1d", "marketing", None),),
    "can_look_up": lambda text: text == "yes",
    "answers_late": lambda text: text == "yes",
    "steps": lambda text: tuple(_route_step(each.split()) for each in text.split(",")),
}


def _route_step(words: list[str]) -> RouteStep:
    """`viber+viber-2 until=seen react=4h wait=15m`: its providers, and what differs from the
    default."""
    providers, *said = words
    given = dict(one.split("=") for one in said)
    return RouteStep(
        providers=tuple(providers.split("+")),
        wait_ms=milliseconds(given.get("wait", "15m")),
        grace_ms=10_000,
        until=msgspec.convert(given.get("until", "delivered"), Until),
        react_ms=milliseconds(given.get("react", "0s")),
    )


def _away(said: list[str]) -> frozenset[str]:
    for one in said:
        if one.startswith("away"):
            return frozenset(one.partition("=")[2].split(",") if "=" in one else PRICES)
    return frozenset()


def _series(said: list[str]) -> int | None:
    given = [one.partition("=")[2] for one in said if one.startswith("series=")]
    return int(given[0]) if given else None


def _ids(said: list[str]) -> tuple[str, ...]:
    given = [one.partition("=")[2] for one in said if one.startswith("ids=")]
    return tuple(given[0].split(",")) if given else ()


def _restored_ms(said: list[str]) -> int:
    moments = [one.partition("=")[2] for one in said if one.startswith("restored=")]
    return T0 + milliseconds(moments[0]) if moments else 0


class Row(msgspec.Struct, frozen=True):
    line: int
    event: list[str]
    statuses: list[str]
    claims: list[str]


class Scenario(msgspec.Struct, frozen=True):
    name: str
    terms: dict[str, str]
    rows: list[Row]


def read_scenarios(path: Path) -> list[Scenario]:
    """The tables of a file, in its order; lines that begin with # are comments."""
    found: list[Scenario] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("["):
            found.append(Scenario(text.strip("[]"), {}, []))
        elif "|" in text:
            event, statuses, *rest = (cell.strip() for cell in text.split("|"))
            claims = [c.strip() for c in "".join(rest).split(";") if c.strip()]
            found[-1].rows.append(Row(number, event.split(), statuses.split(), claims))
        else:
            key, _, value = text.partition(":")
            found[-1].terms[key] = value.strip()
    return found


def milliseconds(text: str) -> int:
    """ "15m10s" in milliseconds."""
    return sum(int(n) * UNITS_MS[unit] for n, unit in re.findall(r"(\d+)(ms|[smhd])", text))


def play(scenario: Scenario) -> None:
    """Plays a table row by row and compares what each one leaves."""
    terms = dict(scenario.terms)
    rules = policy(**{k: read(terms.pop(k)) for k, read in POLICY_TERMS.items() if k in terms})
    asked: dict[str, Any] = dict(terms)
    if "ttl" in asked:
        asked["ttl_ms"] = milliseconds(asked.pop("ttl"))
    if asked.get("category") == "otp":
        asked["campaign"] = None
    opt_outs = scopes_in(asked.pop("opt_outs").encode()) if "opt_outs" in asked else {}
    person = Person()
    for channel in asked.pop("nobody-at", "").split():
        learn(person, channel, request().addresses, rules, reached=False, at_ms=T0)
    world = World(rules, request(**asked), opt_outs, person)
    for row in scenario.rows:
        effects = happen(world, row.event)
        place = f"line {row.line}: {' '.join(row.event)}"
        assert world.statuses() == row.statuses, place
        for claim in row.claims:
            assert holds(world, effects, claim.split()), f"{place}: {claim}; {world.message}"


def happen(world: World, words: list[str]) -> Effects:
    """Makes one row's event happen."""
    verb, *rest = words
    if verb == "wait":
        world.now_ms += milliseconds(rest[0])
        return Effects()
    if verb == "timer":
        away = (one.split("=") for one in rest)
        return world.timer({name: T0 + milliseconds(since) for name, since in away})
    if verb == "released":
        return world.happen(events.Released())
    if verb == "cancelled":
        return world.happen(events.Cancelled())
    if verb == "gone":
        return world.happen(events.ProviderGone(rest[0]))
    step, more = int(rest[0]), rest[1:]
    return (
        _report(world, step, more) if verb == "report" else world.happen(EVENTS[verb](step, more))
    )


def _report(world: World, step: int, words: list[str]) -> Effects:
    status, *said = words
    fields: dict[str, Any] = dict(one.split("=") for one in said)
    if "cost" in fields:
        fields |= {"cost": Decimal(fields["cost"]), "currency": "EUR"}
    if "fault" in fields:
        why = fields["fault"]
        fields |= {"fault": FAULTS[why], "unreachable": why == "nobody"}
    if "at" in fields:
        fields["at_ms"] = T0 + milliseconds(fields.pop("at"))
    for word, part in (("part", "of_whole"), ("loose", "loose")):
        if word in fields:
            fields |= {"provider_id": fields.pop(word), "part": part}
    if "by" in fields:
        provider, _, series = fields.pop("by").partition("#")
        fields |= {"provider": provider, "series": int(series)}
    return world.report(status, step, **fields)


def holds(world: World, effects: Effects, words: list[str]) -> bool:
    """Whether one thing that a row says is so."""
    what, *rest = words
    if what in CHANNELS and len(rest) == 2:
        return world.sums(what)[rest[0]] == int(rest[1])
    if what in MEASURES:
        return world.sums()[what] == int(rest[0])
    return HOLDS[what](world, effects, rest)


def _fault(world: World, index: int) -> str:
    fault = world.message.steps[index].latest_fault
    return fault.code if fault is not None else "none"


def _attempt(world: World, index: int, said: list[str]) -> bool:
    attempt = world.message.steps[index].attempts[-1]
    return all(
        f"{name}={getattr(attempt, name)}" in said for name in (w.split("=")[0] for w in said)
    )


HOLDS: dict[str, Callable[[World, Effects, list[str]], bool]] = {
    "message": lambda w, _, said: MESSAGE_NAMES[w.message.status] == said[0],
    "reason": lambda w, _, said: w.message.reason == " ".join(said),
    "closed": lambda w, _, __: w.message.closed,
    "open": lambda w, _, __: not w.message.closed,
    "held": lambda w, _, __: w.held(),
    "free": lambda w, _, __: not w.held(),
    "lane": lambda w, _, said: w.lane is not None and w.lane[0] == said[0],
    "due": lambda w, _, said: w.message.due_ms == T0 + milliseconds(said[0]),
    "due-within": lambda w, _, said: (
        milliseconds(said[0]) <= w.message.due_ms - T0 <= milliseconds(said[1])
    ),
    "look-up": lambda _, effects, __: effects.look_up,
    "slots": lambda w, _, said: [slot.channel for slot in w.person.slots] == said,
    "legs": lambda w, _, said: [str(step.leg) for step in w.message.steps] == said,
    "reaction": lambda w, _, said: (REACTION_NAMES[w.message.reaction] or "none") == said[0],
    "fallback": lambda _, effects, said: (
        effects.fallback is not None
        and [effects.fallback.channel, effects.fallback.to, effects.fallback.reason] == said
    ),
    "told": lambda _, effects, said: [change.status for change in effects.notices] == said,
    "refused": lambda _, effects, said: effects.refused == said[0],
    "submitted": lambda w, _, said: len(w.submitted) == int(said[0]),
    "first-delivery": lambda w, _, said: w.message.delivered_step == int(said[0]),
    "fault": lambda w, _, said: _fault(w, int(said[0])) == said[1],
    "slot": lambda w, _, said: (
        [(slot.channel, slot.at_ms) for slot in w.person.slots]
        == [(said[0], T0 + milliseconds(said[1]))]
    ),
    "nobody-at": lambda w, _, said: not w.person.channels[said[0]].reached,
    "reached-at": lambda w, _, said: w.person.channels[said[0]].reached,
    "attempt": lambda w, _, said: _attempt(w, int(said[0]), said[1:]),
    "provider": lambda w, _, said: w.message.steps[int(said[0])].provider == said[1],
    "by": lambda w, _, said: w.sums(provider=said[0])[said[1]] == int(said[2]),
}
