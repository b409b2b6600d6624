"""A provider in a storm: what it is asked, what it does, what it answers, and its own bill.

The book is the provider's truth: what it accepted, delivered and reported. What a dispatcher hears
of it is another matter: answers are lost before or after the request was read, garbled, refused;
receipts are repeated, reordered, early, hours late or never sent.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import trio

from gateway.core.ids import Ref, read_ref
from providers import contract
from providers.contract import Fault, Outcome, ProviderConfig, Receipt, Receive, Submission
from tests.simulation.storm_audience import HIDING

if TYPE_CHECKING:
    from tests.simulation.storm import Storm

POISON = "poison"  # a text this provider refuses the whole request for
LATE_READ_MAX_S = 6.0  # a request nobody waits for any more is read by then
TIMEOUT_MS = 5_000
FAULTS = ("not_sent", "throttled", "error", "error_read", "timeout", "timeout_read", "late", "part")
BROKEN = Fault("7", "temporary", False)
REFUSED = Fault("9", "unknown subscriber", True)
FATES = ("delivered", "seen", "undelivered", "expired", "silent", "late")
ARRIVING = ("delivered", "seen", "late")


class Letter(msgspec.Struct):
    """One reference the provider accepted."""

    ref: Ref
    fate: str
    times: int = 1
    reported: bool = False  # a receipt of its delivery was taken by us


class Book:
    """One provider's truth, whoever asks."""

    def __init__(self, name: str, storm: Storm, weights: Sequence[int]) -> None:
        self.name = name
        self.storm = storm
        self.weights = weights
        self.letters: dict[str, Letter] = {}
        self.refused: dict[str, Fault] = {}  # by reference: it takes none of these again
        self.broke = False  # its account has no credit
        self.starts: list[tuple[int, int]] = []  # microseconds, messages: for the rate

    def accept(self, submission: Submission) -> None:
        storm = self.storm
        letter = self.letters.get(submission.ref)
        if letter is not None:
            letter.times += 1
            storm.note(f"{self.name} has {submission.ref} again")
            return
        ref = read_ref(submission.ref)
        assert ref is not None
        (fate,) = storm.chance.choices(FATES, self.weights)
        if fate == "seen" and submission.to.endswith(HIDING):
            fate = "delivered"  # it is never shown
        self.letters[submission.ref] = letter = Letter(ref, fate)
        storm.note(f"{self.name} accepts {submission.ref}, which will be {fate}")
        storm.callers.read(letter)
        if fate in ARRIVING:
            storm.people.read(self.name, submission.to.removeprefix("+"))
        self._report(submission.ref, letter)

    def _report(self, ref: str, letter: Letter) -> None:
        chance = self.storm.chance
        statuses: list[Any] = {
            "delivered": ["sent", "delivered"],
            "late": ["sent", "delivered"],
            "seen": ["sent", "delivered", "seen"],
            "undelivered": ["sent", "undelivered"],
            "expired": ["expired"],
            "silent": [],
        }[letter.fate]
        if not statuses:
            return
        after_s = chance.choice((0.0, 0.0, 1.0, 8.0))  # the first may outrun the answer
        if letter.fate == "late":
            after_s = chance.choice((880.0, 1_200.0, 5_000.0, 90_000.0))
        receipts = statuses * chance.choice((1, 1, 2, 3))
        if chance.random() < 0.5:
            chance.shuffle(receipts)
        for status in receipts:
            receipt = Receipt(status=status, ref=ref)
            self.storm.later(after_s, partial(self.storm.post, self, receipt))
            after_s += chance.choice((0.0, 0.0, 0.3, 0.3, 200.0))

    def delivered(self) -> dict[tuple[str, int], int]:
        """(message, step): references of it that arrived and whose receipt we took."""
        return Counter(
            (letter.ref.message_id, letter.ref.step)
            for letter in self.letters.values()
            if letter.reported
        )


class Hook(Protocol):
    def __call__(self) -> Awaitable[None]: ...


class StormProvider:
    """The provider as one dispatcher reaches it; `hook`: where that process may stand or die."""

    def __init__(self, book: Book, hook: Hook, fault_share: float, rate: int, batch: int) -> None:
        self.book = book
        self.storm = book.storm
        self.hook = hook
        self.fault_share = fault_share
        self.can_look_up = True
        self.look_up_max = 20
        self.batch_max = batch
        self.config = ProviderConfig(
            name=book.name,
            kind="storm",
            sender="Shop",
            rate_per_s=rate,
            timeout_ms=TIMEOUT_MS,
            connections=4,
        )

    async def run(self, receive: Receive) -> None:
        """Its receipts come by callback."""

    async def aclose(self) -> None: ...

    @property
    def chance(self) -> random.Random:
        return self.storm.chance

    def tokens(self, batch: Sequence[Submission]) -> int:
        return len(batch)

    async def deliver(
        self, batch: Sequence[Submission], tell_taken: contract.TellTaken | None = None
    ) -> list[Outcome]:
        book = self.book
        book.starts.append((round(trio.current_time() * 1e6), len(batch)))
        self.storm.note(f"{book.name} is asked for {' '.join(s.ref for s in batch)}")
        await self.hook()
        fate = "ok"
        if self.chance.random() < self.fault_share:
            fate = self.chance.choice(FAULTS)
        if fate == "not_sent":
            raise contract.NotSent("refused", "The connection was refused.")
        try:
            await trio.sleep(self.chance.uniform(0.005, 0.3))
        except trio.Cancelled:
            if fate == "ok" and self.chance.random() < 0.5:
                self._read_later(batch)
            raise
        outcomes = self._answer(batch, fate)
        await self.hook()
        await trio.sleep(self.chance.uniform(0.005, 0.3))
        if tell_taken is not None and self.chance.random() < 0.3:
            await self._tell_some(outcomes, tell_taken)
        return outcomes

    async def _tell_some(self, outcomes: Sequence[Outcome], tell_taken: contract.TellTaken) -> None:
        """Some of what was taken is told of while the others are open, which may then be lost."""
        taken = [each for each in outcomes if isinstance(each, contract.Submitted)]
        if early := [each for each in taken if self.chance.random() < 0.6]:
            self.storm.note(f"{self.book.name} tells of {' '.join(each.ref for each in early)}")
            tell_taken(early)
            await self.hook()
            await trio.sleep(self.chance.uniform(0.005, 0.3))
            if self.chance.random() < self.fault_share:
                raise contract.Unknown("timeout", "The others have no answer.")

    def _read_later(self, batch: Sequence[Submission]) -> None:
        delay_s = self.chance.uniform(0.0, LATE_READ_MAX_S)
        self.storm.later(delay_s, lambda: self._take_all(batch))

    def _take_all(self, batch: Sequence[Submission]) -> list[Outcome]:
        if self.book.broke or any(s.text == POISON for s in batch):
            return []
        return [self._take(submission) for submission in batch]

    def _take(self, submission: Submission) -> Outcome:
        draw = self.chance.random()
        book, ref = self.book, submission.ref
        if ref in book.refused:
            self.storm.note(f"{book.name} had {ref} before")
            return contract.Submitted(ref, again=True)
        known = ref in book.letters
        if draw < self.fault_share / 4 and not known:
            fault = book.refused[ref] = BROKEN if draw < self.fault_share / 6 else REFUSED
            self.storm.note(f"{book.name} refuses {ref}: {fault.name}")
            nobody = self.storm.plan.best and fault is REFUSED
            return contract.Refused(ref, fault, unreachable=nobody)
        book.accept(submission)
        return contract.Submitted(ref, again=known)

    def _answer(self, batch: Sequence[Submission], fate: str) -> list[Outcome]:
        """Does what is asked, or not, and answers, or not."""
        if fate == "throttled":
            wish = self.chance.choice((None, 300, 4_000))
            raise contract.Throttled("429", "Slow down.", retry_after_ms=wish)
        if self.book.broke:
            raise contract.AccountFault("credit", "There is no credit.")
        if fate in ("error", "timeout"):
            raise contract.Unknown(fate, "Nothing was read.")
        if fate == "late":
            self._read_later(batch)
            raise contract.Unknown("timeout", "It is read later.")
        if any(s.text == POISON for s in batch):
            raise contract.BadRequest("400", "One of these cannot be read.")
        outcomes = self._take_all(batch)
        if fate in ("error_read", "timeout_read"):
            raise contract.Unknown(fate, "It was read.")
        if fate == "part":
            return outcomes[: len(outcomes) // 2]
        return outcomes

    async def look_up(self, refs: Sequence[str]) -> list[Receipt]:
        await self.hook()
        await trio.sleep(self.chance.uniform(0.005, 0.3))
        if self.chance.random() < self.fault_share:
            raise contract.Unknown("error", "It cannot say.")
        known = [Receipt(status="sent", ref=ref) for ref in refs if ref in self.book.letters]
        known += [
            Receipt(status="rejected", ref=ref, fault=fault)
            for ref in refs
            if (fault := self.book.refused.get(ref)) is not None
        ]
        self.storm.note(f"{self.book.name} knows {len(known)} of {' '.join(refs)}")
        return known
