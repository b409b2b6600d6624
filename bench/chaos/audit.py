"""After a storm: is nothing lost, nothing twice, and are the books true to the last unit?

Holds four accounts against each other that were kept apart: what the client was told, what Redis
holds, the ledger, and the provider's own bill. Every difference is one sentence in `Audit.faults`;
none is repaired. What policy allows (a code sent again because its answer was lost, a number whose
receipts never came) is counted by name in `Audit.counts`. What was not to be sent any more, because
somebody reacted or a campaign was not to go on, is `still`'s work.

The rule of accounting: for every step, what we booked as its provider's charge is what the provider
charges for it, and it is delivered here exactly if it is there, except for the numbers whose
receipts are lost for good and for what nobody can tell us of (`billed`); for those the differences
are added up, and the ledger plus that sum is the bill.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import redis

from bench.chaos import audience, billed, budget, records, still
from bench.chaos.billed import REJECTED, WITHOUT_LOOK_UPS, Bill, Billed
from bench.chaos.records import STATUSES, STEP_DELIVERED, Record, Step, decode
from bench.stack import SMPP, SMTP

UNIT = 1_000_000  # of the ledger's amounts in one of the currency
SHOWN = 5
KINDS = {"m", "p", "u", "c", "i", "o", "lane", "timers", "ledger", "totals", "days", "events"}
KINDS |= {"index", "x", "t", "changed", "marks", "quarantine", "verified", "{kaskad}", "limit"}
KINDS |= {"e", "su", "so", "oo", "counts", "feeder", "rates", "pace"}
KINDS |= {"link", "clicks", "budget", "hours", "un"}
# Keys that must have a lifetime.
FOR_A_TIME = ("p", "u", "e", "c", "i", "x", "t", "feeder", "rates", "limit", "pace", "hours", "un")
CLOCKS_MS = 12_000  # how far two clocks may be apart in a storm
NOT_KNOWN_MIN = 2  # look-ups before a step may be sent again
_TRACE = re.compile(
    r"Traceback|Something unexpected|\"level\":\s*\"critical\"|\"event\":\s*\"incident\""
)

# Expired messages in counts, by reason; those whose last provider never had them, and those that
# are delivered by the providers' own books.
REASON = "expired: "
NEVER_SENT = "expired, never at the last provider: "
ARRIVED = "expired, and delivered: "


class Audited(Protocol):
    """What an audit asks. `unexpected` are the processes that ended by themselves."""

    redis: redis.Redis
    logs: list[Path]
    unexpected: list[str]

    def billed(self) -> dict[str, Any]: ...

    def command(self, *words: str) -> Any: ...


class Audit:
    """One audit; `run` fills `faults` (empty: all is well) and `counts`. `opens_ms` is when the
    send window of the storm opened, `budget` the limit of its budget."""

    def __init__(
        self, stage: Audited, client: dict[str, Any], invalid: int, lost: set[str]
    ) -> None:
        self._stage = stage
        self._client = client
        self._invalid = invalid
        self._lost = lost
        self.opens_ms = self.budget = 0
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        redis = self._stage.redis
        kinds = records.keys_by_kind(redis)
        messages = {id_: records.message(id_, b) for id_, b in records.values(redis, kinds["m"])}
        lines = billed.of(self._stage.billed(), messages)
        booked = records.ledger(redis)
        self._promises(messages)
        self._twice(messages, lines)
        self._expired(messages, lines.every)
        self._campaigns(messages, booked)
        self._still(messages, lines.every)
        self._charges(messages, lines, booked)
        self._books(messages, booked)
        if self.budget:
            those = messages.values()
            self.faults += budget.faults(redis, self.budget, those, booked.revived)
        self._people(messages, kinds)
        self._left_behind(messages, kinds)
        self._processes()

    def _say(self, what: str, found: Any) -> None:
        """A fault for each kind of difference, with how many there are and a few of them."""
        if found:
            some = list(found.items() if isinstance(found, dict) else found)[:SHOWN]
            self.faults.append(f"{len(found)} {what}: {some}")

    # --- 1: promises ---

    def _promises(self, messages: dict[str, Record]) -> None:
        accepted, told = self._client["accepted"], self._client["counts"]
        self._say("promised messages are gone", sorted(set(accepted) - set(messages)))
        self._say("messages nobody was promised", sorted(set(messages) - set(accepted)))
        self._say(
            "messages are not final",
            {m.id: STATUSES[m.status] for m in messages.values() if not m.final},
        )
        self._say("faulty answers to the client", self._client["faults"])
        undecided = told.get("undecided", 0)
        self._say("requests were never decided", range(undecided))
        wrong = told.get("rejected", 0) - self._invalid
        self._say(f"requests more or less than {self._invalid} were refused", range(abs(wrong)))
        for id_, to, user, campaign, _ in self._client["duplicates"]:
            winner = accepted.get(id_)
            same = winner and winner[2] == campaign and self._are_one(winner[:2], (to, user))
            if not same:
                self.faults.append(f"{to} was told to be a duplicate of {id_}: {winner}")
        for name in ("accepted", "duplicate", "suppressed", "rejected"):
            self.counts[name] = told.get(name, 0)
        beside = {name: told[name] for name in told if name.startswith(audience.HELD)}
        self.counts.update(beside)
        self.counts["refused by a full budget"] = told.get("refused by a full budget", 0)
        for name in ("sent again", "answers lost"):
            self.counts[f"client: {name}"] = told.get(name, 0)
        for message in messages.values():
            self.counts[f"final: {STATUSES[message.status]}"] += 1

    def _are_one(self, *people: Sequence[Any]) -> bool:
        """Whether phones and users are one person's, now."""
        numbers = {audience.person_of(to, user) for to, user in people}
        merged = {n + 1: n for n in map(int, self._client.get("merged", {}))}
        return len({merged.get(n, n) for n in numbers}) == 1

    # --- 2: nothing twice ---

    def _twice(self, messages: dict[str, Record], lines: Billed) -> None:
        self._say("messages on the bill are not ours", lines.foreign)
        strangers = sorted({id_ for id_, _ in lines.every} - set(messages))
        self._say("sent messages were never promised", strangers)
        twice = {}
        for (id_, index), those in lines.every.items():
            message = messages.get(id_)
            if message is None:
                continue
            step = message.steps[index]
            self.counts[f"provider has: {step.channel}"] += 1
            if step.provider == SMPP:
                self.counts["provider has: sms, over SMPP"] += 1
                several = any(len(line["echo"]) > 1 for line in those)
                self.counts["provider has: sms, over SMPP in parts"] += several
            taken = [line for line in those if line["outcome"] != REJECTED]
            again = sum(line["requests"] - 1 for line in those)
            if step.provider in (SMPP, SMTP):  # each sending is a line: of a text, or of a name
                again += max(len(taken) - 1, 0)
            elif len(taken) > 1:
                twice[f"{id_}.{index}"] = those
            not_known = step.look_ups >= NOT_KNOWN_MIN or step.lost > 1
            if not_known and step.attempts > 1 and not again:
                self.counts["asked for, not known, sent again"] += 1
                continue
            if again > sent_again_max(message.category, step):
                twice[f"{id_}.{index}"] = those
            elif message.category == "otp":
                self.counts["sent again by policy (code, answer lost)"] += again
            else:
                self.counts["sent again by policy (provider did not know it)"] += again
        self._say("steps were sent twice outside policy", twice)

    def _expired(self, messages: dict[str, Record], bill: Bill) -> None:
        """Why messages expired, and what the providers know of them."""
        for message in messages.values():
            if STATUSES[message.status] != "expired":
                continue
            steps = [bill.get((message.id, n), []) for n in range(len(message.steps))]
            self.counts[f"{REASON}{message.reason}"] += 1
            if not steps[-1]:
                self.counts[f"{NEVER_SENT}{message.reason}"] += 1
            if any(line["delivered"] for lines in steps for line in lines):
                self.counts[f"{ARRIVED}{message.reason}"] += 1

    def _campaigns(self, messages: dict[str, Record], booked: records.Booked) -> None:
        """One delivery a person and campaign, and no more than the caps allow. A delivery that was
        reported after the message had been given up is the one exception: claim and slot were free
        by then. Of two who turned out to be one person, it is so from then on."""
        of_campaign: defaultdict[tuple[int, str], list[Record]] = defaultdict(list)
        of_category: defaultdict[tuple[int, str], list[Record]] = defaultdict(list)
        for message in messages.values():
            if message.delivered_step >= 0:
                person = audience.person_of(message.to, None)
                of_category[person, message.category].append(message)
                if message.campaign is not None:
                    of_campaign[person, message.campaign].append(message)
        twice, beyond = {}, {}
        for who, those in of_campaign.items():
            in_time = [m.id for m in those if m.id not in booked.revived]
            if len(in_time) > 1:
                twice[who] = in_time
            elif len(those) > 1:
                self.counts["campaign again: the first delivery was reported too late"] += 1
        for who, those in of_category.items():
            in_time = [m.id for m in those if m.id not in booked.revived]
            if len(in_time) > audience.CAPS.get(who[1], len(in_time)):
                beyond[who] = in_time
        self._say("people got a campaign twice", twice)
        self._say("people got more than a cap allows", beyond)
        merged = self._client.get("merged", {})
        again = []
        for number, heard_ms in merged.items():
            both = (int(number), int(number) + 1)
            those = [m for person in both for m in of_category[person, "marketing"]]
            known = {m.id for m in those if m.created_ms < heard_ms - CLOCKS_MS} - booked.revived
            late = [m.id for m in those if m.created_ms > heard_ms + CLOCKS_MS]
            if known and late:
                again.append((number, *known, *late))
        self._say("people who are one got more than a cap allows", again)
        self.counts["people who turned out to be one"] = len(merged)

    def _still(self, messages: dict[str, Record], bill: Bill) -> None:
        """What was not to be sent any more, and what campaigns count."""
        reacted, campaigns = self._client.get("reacted", {}), self._client.get("campaigns", {})
        sent: dict[str, list[int]] = defaultdict(list)
        for (id_, _), lines in bill.items():
            sent[id_] += [line["accepted_ms"] for line in lines]
        for what, found in still.found(messages, sent, reacted, campaigns, self.opens_ms):
            self._say(what, found)
        for campaign in sorted({m.campaign or "" for m in messages.values() if m.counted}):
            told = records.counted(self._stage.redis, campaign)
            asked = {n: told.pop(n, 0) for n in ("accepted", "duplicates", "suppressed")}
            money = [told.pop("billed", 0), told.pop("cost", 0)]
            those = [m for m in messages.values() if m.counted and m.campaign == campaign]
            states = dict(Counter(STATUSES[m.status] for m in those))
            # Requests that were refused so count beside messages that ended so.
            asked["suppressed"] -= states.pop("suppressed", 0)
            booked = [sum(m.billed for m in those), sum(s.charged for m in those for s in m.steps)]
            lacking = asked["suppressed"] < 0 or asked["accepted"] != len(those)
            if told != states or money != booked or lacking:
                self.faults.append(
                    f"{campaign} counts {asked}, {told}, {money}; {states}, {booked}"
                )
        self.counts.update(still.counts(messages, reacted))

    # --- 3: money ---

    def _charges(self, messages: dict[str, Record], bills: Billed, booked: records.Booked) -> None:
        wrong, unreported = {}, 0
        for place, every in bills.every.items():
            silent = [line for line in every if line not in bills.learned.get(place, ())]
            unreported += sum(units(line["charge"]) for line in silent)
            taken = any(line["outcome"] != REJECTED for line in silent)
            self.counts["steps whose answer was lost where nobody can be asked"] += taken
        for message in messages.values():
            for index, step in enumerate(message.steps):
                lines = bills.learned.get((message.id, index), [])
                theirs = sum(units(line["charge"]) for line in lines)
                arrived = any(line["delivered"] for line in lines)
                ours = (step.charged, step.status >= STEP_DELIVERED)
                if ours == (theirs, arrived):
                    continue
                if "+" + message.to in self._lost:
                    unreported += theirs - step.charged
                    self.counts["steps whose receipts were lost for good"] += 1
                else:
                    wrong[f"{message.id}.{index}"] = (step, lines)
        self._say("steps differ from the provider's bill", wrong)
        charge = sum(units(line["charge"]) for each in bills.every.values() for line in each)
        cost = booked.sums["cost"]
        if cost + unreported != charge:
            self.faults.append(f"The ledger has {cost} + {unreported}, the bill {charge}")
        self.counts["bill, 1e-6 EUR"] = charge
        self.counts["ledger cost, 1e-6 EUR"] = cost
        self.counts["unreported, 1e-6 EUR"] = unreported

    def _books(self, messages: dict[str, Record], booked: records.Booked) -> None:
        legs = {
            m.id: {s.leg for s in m.steps if s.status >= STEP_DELIVERED} for m in messages.values()
        }
        wrong_legs = {
            id_: (len(legs.get(id_, ())), n)
            for id_, n in (+booked.times).items()
            if n != len(legs.get(id_, ()))
        }
        for m in messages.values():
            billing = Counter(s.leg for s in m.steps if s.billed is not None)
            if billing != Counter(legs[m.id]) or sum(s.billed or 0 for s in m.steps) != m.billed:
                wrong_legs[m.id] = (len(legs[m.id]), len(billing))
        self._say("messages have legs that are not billed once", wrong_legs)
        wrong = {
            m.id: (m.billed, booked.billed[m.id], m.delivered_step)
            for m in messages.values()
            if m.billed != booked.billed[m.id] or (m.delivered_step >= 0) != (m.billed > 0)
        }
        self._say("messages were billed without delivery, or not at all", wrong)
        verdict = self._stage.command("report", "verify", "--json")
        if not verdict.get("agrees"):
            self.faults.append(f"The totals are not the sum of the ledger: {verdict}")
        today = datetime.datetime.now(datetime.UTC).date()
        days = [str(today + datetime.timedelta(days=n)) for n in (-1, 2)]  # clocks are not true
        words = ("report", "cost", "--format", "json", "--from", days[0], "--to", days[1])
        total = self._stage.command(*words)["total"]
        for measure in ("accepted", "delivered", "double_delivered", "sent", "undelivered"):
            if total[measure] != booked.sums[measure]:
                self.faults.append(f"{measure}: {total[measure]} reported, {booked.sums[measure]}")
        for measure in ("cost", "billed"):
            if units(total[measure]) != booked.sums[measure]:
                self.faults.append(f"{measure}: {total[measure]} reported, {booked.sums[measure]}")
        if booked.sums["accepted"] != len(messages):
            self.faults.append(f"{booked.sums['accepted']} booked as accepted of {len(messages)}")
        self.counts["billed, 1e-6 EUR"] = booked.sums["billed"]
        self.counts["double deliveries (late Viber)"] = booked.sums["double_delivered"]
        self.counts["second legs billed"] = sum(len(each) - 1 for each in legs.values() if each)

    # --- claims, caps, and what is left ---

    def _people(self, messages: dict[str, Record], kinds: dict[str, list[bytes]]) -> None:
        """Claims and slots in Redis are those the delivered messages call for, and no others."""
        claims, slots = set(), set()
        for kind in ("p", "u", "e"):
            for who, blob in records.values(self._stage.redis, kinds.get(kind, [])):
                person, known = decode(blob), f"{kind}:{who}"
                slots |= {(known, slot["m"], slot.get("l", 0)) for slot in person.get("s", [])}
                claims |= {(known, name, held["m"]) for name, held in person.get("c", {}).items()}
        for name, blob in records.values(self._stage.redis, kinds.get("c", [])):
            length, _, rest = name.partition(":")
            who, campaign = rest[: int(length)], rest[int(length) + 1 :]
            claims.add((who, campaign, decode(blob)["m"]))
        wanted_claims, wanted_slots = set(), set()
        held_for = {claim[:2] for claim in claims}
        for message in messages.values():
            if message.delivered_step < 0:
                continue
            who = message.person or f"p:{message.to}"
            if message.campaign is not None:
                wanted_claims.add((who, message.campaign, message.id))
            if message.category in audience.CAPS:
                legs = {step.leg for step in message.steps if step.status >= STEP_DELIVERED}
                wanted_slots |= {(who, message.id, leg) for leg in legs}
        # Of two deliveries in one campaign (see _campaigns) one holds the claim.
        missing = {claim for claim in wanted_claims - claims if claim[:2] not in held_for}
        self._say("claims are missing", sorted(missing))
        self._say("claims are held for nothing", sorted(claims - wanted_claims))
        self._say("cap slots are missing", sorted(wanted_slots - slots))
        self._say("cap slots are held for nothing", sorted(slots - wanted_slots))
        self.counts["people who opted out"] = int(self._stage.redis.hlen("{k0}o"))
        self.counts["claims held"], self.counts["cap slots held"] = len(claims), len(slots)

    def _left_behind(self, messages: dict[str, Record], kinds: dict[str, list[bytes]]) -> None:
        self._say("things are left in lanes and timers", records.left(self._stage.redis))
        self._say("contents are left", [id_ for id_, m in messages.items() if m.content])
        self._say("records are set aside", kinds.get("quarantine", []))
        strange = {kind: keys[:SHOWN] for kind, keys in kinds.items() if kind not in KINDS}
        self._say("kinds of keys are not documented", strange)
        with self._stage.redis.pipeline(transaction=False) as pipe:
            keys = [key for kind in FOR_A_TIME for key in kinds.get(kind, [])]
            for key in keys:
                pipe.pttl(key)
            for_ever = [key for key, ttl in zip(keys, pipe.execute(), strict=True) if ttl == -1]
        self._say("keys that must lapse have no lifetime", for_ever)

    def _processes(self) -> None:
        self._say("processes ended by themselves", self._stage.unexpected)
        noisy = [path.name for path in self._stage.logs if _TRACE.search(_text(path))]
        self._say("processes logged a fault of their own", noisy)


def sent_again_max(category: str, step: Step) -> int:
    """How often policy lets a step be sent again: at most once for each answer that was lost, and
    but for a code only when the provider was asked often enough since.

    The record says how often only of the last loss. That each earlier one was asked about as well
    is the rule of `core.cascade`, which its scenarios hold. Who cannot be asked gets nothing again
    but a code."""
    if step.provider in WITHOUT_LOOK_UPS and category != "otp":
        return 0
    asked_since = category == "otp" or step.look_ups >= NOT_KNOWN_MIN
    return step.lost if asked_since else max(step.lost - 1, 0)


def units(amount: str) -> int:
    """A decimal string in the ledger's units. A fraction of a unit is a ValueError."""
    exact = Decimal(amount) * UNIT
    if exact != int(exact):
        raise ValueError(f"{amount} is not a whole number of 1e-6")
    return int(exact)


def _text(path: Path) -> str:
    return path.read_text(errors="replace")
