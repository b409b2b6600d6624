"""What an attempt charges beside its whole: parts of texts that the provider did not take, or did
not deliver, as a whole, and sendings by another reference that it took, or delivered, as well.

Which reference the charge of the whole is for is kept with the attempt. The others have an id each
in `loose_ids`, whoever tells of them and how often; `settle_loose_parts` books what they come to.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.cascade.decision import CascadeDecision
from gateway.core.events import LooseParts, Reported
from gateway.core.ids import step_ref
from gateway.core.money import settlement
from gateway.core.money.settlement import Work
from gateway.core.records.message import OPEN


class LooseCharges(CascadeDecision):
    """The charges beside the whole, of one decision."""

    __slots__ = ()

    def take_loose_parts(self, loose: LooseParts) -> None:
        """Parts were taken and the rest of their text not: they cost where taking is charged."""
        step = self.step(loose.step)
        attempt = step.attempt_of(loose.series) if step is not None else None
        if step is not None and attempt is not None:
            self._charge_parts(self.work(loose.step, step, attempt), loose.ids, "sent")

    def take_arrived_part(self, work: Work, reported: Reported) -> None:
        """A part arrived: it costs where arriving is charged, unless its whole text does."""
        attempt, receipt = work.attempt, reported.receipt
        id_ = receipt.provider_id or receipt.ref or ""
        if reported.part == "of_whole" and id_ not in attempt.ids:  # its answer is late
            attempt.further_ids += () if attempt.provider_id is None else (id_,)
            attempt.provider_id = attempt.provider_id or id_
            self.effects.changed = True
        self._charge_parts(work, (id_,), "delivered")

    def charge_by(self, work: Work, series: int) -> None:
        """What is charged as a whole is what was sent by this reference; whoever calls this books
        that it was taken, or arrived."""
        attempt = work.attempt
        attempt.charged_by = series + 1 if attempt.series else 0
        if attempt.loose_ids:
            refs = self._refs(work, series)
            attempt.loose_ids = tuple(id_ for id_ in attempt.loose_ids if id_ not in refs)

    def charge_other_sending(self, work: Work, series: int, charged_on: str) -> None:
        """What was sent by this reference was taken, or arrived. The step was sent by more than
        one where an answer was lost; another than the charged one costs beside that, once, where
        this is charged."""
        attempt = work.attempt
        if attempt.sent_ms and attempt.charged_series in (series, None):
            return  # it is the charged one, or an older record does not say which is
        self._charge_parts(work, self._refs(work, series), charged_on)

    def _refs(self, work: Work, series: int) -> list[str]:
        """A name for each part of what was sent by this reference."""
        ref = step_ref(self.message.id, work.index, series)
        return [ref, *(f"{ref} {number}" for number in range(2, work.step.parts + 1))]

    def arrive_by(self, work: Work, series: int) -> None:
        """What was sent by this reference arrived. The first to arrive is the charged one, where
        arriving is charged; each further one costs beside it."""
        attempt = work.attempt
        if not (series or attempt.series or attempt.loose_ids):
            return  # it was sent once, and nothing is charged beside that: as almost always
        if self.policy.provider(work.provider).charged_on != "delivered":
            return
        if not work.step.arrival_of(attempt):
            self.charge_by(work, series)
        else:
            self.charge_other_sending(work, series, "delivered")

    def _charge_parts(self, work: Work, ids: Sequence[str], charged_on: str) -> None:
        """Keeps the ids of parts that `settle_loose_parts` charges, where they are news."""
        attempt = work.attempt
        if self.policy.provider(work.provider).charged_on == charged_on:
            known = (*attempt.loose_ids, *(attempt.ids if attempt.charged is not None else ()))
            if new := tuple(id_ for id_ in ids if id_ not in known):
                attempt.loose_ids += new
                self.message.loose = True
                self.effects.changed = True

    def settle_loose_parts(self) -> None:
        """Charges parts that are charged without their text. Whatever happened in whatever order,
        what is booked follows from the record: those of a text that is charged as a whole cost
        nothing beside it, and those of one that may yet arrive wait for that."""
        for index, step in enumerate(self.message.steps):
            for attempt in step.attempts:
                if not attempt.loose_ids and not attempt.loose_cost:
                    continue
                if attempt.charged is not None:
                    left = [id_ for id_ in attempt.loose_ids if id_ not in attempt.ids]
                    attempt.loose_ids = tuple(left)
                awaited = attempt is step.attempt and step.status in OPEN and not step.done_ms
                work = self.work(index, step, attempt)
                if (booking := settlement.loose(work, awaited=awaited)) is not None:
                    self.book(attempt, booking)
        self.message.loose = any(a.loose_ids for s in self.message.steps for a in s.attempts)
