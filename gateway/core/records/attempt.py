"""Who may do a step, and what each provider did at it: parts of a step's record.

candidate  a provider that may do the step, and what one unit of price costs there
attempt    one provider's work on a step: its reference, claims, answer and charge
"""

from __future__ import annotations

import msgspec
from msgspec import field

from providers.contract import Fault


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A provider that may do a step, and its list price of one unit to us."""

    provider: str = field(name="p")
    cost: int = field(name="c")


class Attempt(msgspec.Struct, omit_defaults=True, gc=False):
    """One provider's work on a step. `series` is the latest of its references, which go on growing
    from one attempt of the step to the next: a reference names one attempt.

    Each counter has one meaning. `look_ups` and `not_known` start again with each answer that is
    lost."""

    candidate: int = field(name="k", default=0)
    series: int = field(name="s", default=0)
    first_claimed_ms: int = field(name="f", default=0)
    claimed_ms: int = field(name="t", default=0)  # the latest claim
    sent_ms: int = field(name="w", default=0)
    provider_id: str | None = field(name="i", default=None)
    fault: Fault | None = field(name="e", default=None)
    charged: int | None = field(name="c", default=None)  # what was booked as its charge, in all
    priced: bool = field(name="p", default=False)  # ... by a receipt's price, not by the list
    claims: int = field(name="n", default=0)  # how often it was claimed
    put_backs: int = field(name="b", default=0)  # ... and put back unsent, by no fault of its own
    refusals: int = field(name="r", default=0)  # refused for now
    lost: int = field(name="l", default=0)  # answers lost
    unreachable: int = field(name="u", default=0)  # connections that failed
    look_ups: int = field(name="q", default=0)  # asked since its answer was lost last
    not_known: int = field(name="a", default=0)  # ... and answered that the step is not known
    absent_ms: int = field(name="m", default=0)  # when it was last sure that it is not known
    # The charge that a free failure took back: it stands again should the step arrive after all.
    waived: int | None = field(name="v", default=None)
    doubt: bool = field(name="d", default=False)  # an answer was lost, and nobody has said more
    # Of several attempts of a step: the how-manieth to arrive; 0: it did not.
    arrival: int = field(name="y", default=0)
    network: str | None = field(name="h", default=None)  # that a receipt named
    invoiced: bool = field(name="z", default=False)  # the charge is what an accepted invoice says
    # The days of that invoice, as "2026-11-01 2026-11-30"; records of before 2026-11-30 do not say.
    invoiced_days: str = field(name="I", default="")
    # The list price of one unit to us in the network that a receipt named; None: by the prefix.
    network_cost: int | None = field(name="o", default=None)
    further_ids: tuple[str, ...] = field(name="j", default=())  # of its parts after the first
    # 1 + the series of the reference that `charged` is for; 0 where there was one only, and in
    # records of before 2026-11-30, which do not say. By another reference it was sent once more.
    charged_by: int = field(name="T", default=0)
    # What it charges beside the whole: parts of texts that it did not take, or did not deliver, as
    # a whole, and sendings by other references that it took, or delivered, as well.
    loose_ids: tuple[str, ...] = field(name="x", default=())
    loose_cost: int = field(name="g", default=0)  # what was booked for them, beside `charged`
    gone: bool = field(name="G", default=False)  # all the devices that the provider reaches

    @property
    def ids(self) -> tuple[str, ...]:
        """The provider's own, of the whole; none where it has none or nobody knows them."""
        return () if self.provider_id is None else (self.provider_id, *self.further_ids)

    @property
    def cost(self) -> int | None:
        """What was booked as its charges; None: nothing was."""
        return (self.charged or 0) + self.loose_cost if self.loose_cost else self.charged

    @property
    def charged_series(self) -> int | None:
        """Of the reference that `charged` is for; None: the record does not say."""
        if self.charged_by:
            return self.charged_by - 1
        return self.series if self.series == 0 else None

    @property
    def tries(self) -> int:
        """How often it was claimed and not put back."""
        return self.claims - self.put_backs
