"""What a step's progress books: sent, delivered, undelivered, the provider's charge and the app's
bill. Pure; it changes nothing, the cascade applies what is returned.

The app is billed once a message, at its first delivery, at the price fixed at acceptance. The
provider's charge is booked once an attempt, when that provider charges, and from then on only
corrected by what a receipt says it was; of several prices the highest stands, so that the order of
receipts does not matter. CONTRACT.md section 7.
"""

from __future__ import annotations

import msgspec

from gateway.core.channels import BASELINE_COLUMN, CHANNELS
from gateway.core.effects import COUNTS, NOT_COMPARED, group_of
from gateway.core.money import AmountError, from_decimal
from gateway.core.policy import Policy
from gateway.core.records.entries import Post
from gateway.core.records.message import Attempt, Message, Step
from providers.contract import Receipt

_ARRIVAL = ("delivered", "seen")


class Booking(msgspec.Struct, frozen=True):
    """A post, and what the records say from then on: the attempt's charge and whether a receipt
    named it, and the bill where the step bills the message. None: nothing, or as before."""

    post: Post | None
    charged: int | None = None
    priced: bool = False
    billed: int | None = None


class Work(msgspec.Struct, frozen=True):
    """One provider's work on one step of a message: what is booked is booked for it."""

    message: Message
    index: int
    step: Step
    attempt: Attempt
    provider: str
    policy: Policy

    @property
    def list_price(self) -> int:
        """What the provider charges for all parts, by the price list."""
        return self.step.candidates[self.attempt.candidate].cost * self.step.parts


def sent(work: Work) -> Booking:
    """The provider has the step."""
    if work.policy.providers[work.provider].charged_on != "sent":
        return Booking(_post(work, {"sent": 1}))
    charged = work.list_price
    return Booking(_post(work, {"sent": 1} | _cost(work, charged), charged), charged)


def undelivered(work: Work) -> Booking:
    """The step ended without delivery."""
    return Booking(_post(work, {"undelivered": 1}))


def delivered(work: Work, price: int | None, *, given_up: bool) -> Booking:
    """The step arrived; `price` is what `price_in` found in its receipt.

    `given_up`: it had been booked as undelivered, which is taken back."""
    message, step, attempt = work.message, work.step, work.attempt
    measures: dict[str, int] = {}
    if CHANNELS[step.channel].price_unit == "part":
        measures["parts"] = step.parts
    if given_up:
        measures["undelivered"] = -1
    charged, priced, noted = attempt.charged, attempt.priced, None
    if charged is None:
        priced = price is not None
        charged = noted = work.list_price if price is None else price
        measures |= _cost(work, charged)
    if message.delivered_step >= 0:
        measures["double_delivered"] = 1
        return Booking(_post(work, measures, noted), charged, priced)
    billed = step.sell * step.parts
    measures["delivered"] = 1
    measures["billed"] = billed
    if message.baseline_cost is not None:
        # A step of the baseline's own channel is compared with what it did cost.
        is_baseline = step.channel == work.policy.baseline
        measures[BASELINE_COLUMN] = charged if is_baseline else message.baseline_cost
    return Booking(_post(work, measures, noted), charged, priced, billed)


def corrected(work: Work, price: int | None) -> Booking | None:
    """The difference a receipt's price makes to a charge that is booked already; None when nothing
    changes.

    What is not charged yet stays so: its provider charges for deliveries, and there is none."""
    charged = work.attempt.charged
    if price is None or charged is None or (work.attempt.priced and price <= charged):
        return None
    difference = price - charged
    if difference == 0:
        return Booking(None, price, priced=True)
    measures = _cost(work, difference)
    compared = work.message.baseline_cost is not None
    is_baseline = compared and work.step.channel == work.policy.baseline
    if is_baseline and work.message.delivered_step == work.index:
        measures[BASELINE_COLUMN] = difference
    return Booking(_post(work, measures, price), price, priced=True)


def price_in(work: Work, receipt: Receipt) -> int | None:
    """The whole charge a receipt names, in 1e-6 units; None when it names none that counts: it must
    be of an arrival, or of anything when sending is charged."""
    cost = receipt.cost
    if receipt.part_cost is not None:
        cost = receipt.part_cost * work.step.parts
    if cost is None or receipt.currency != work.policy.currency:
        return None
    charged_on = work.policy.providers[work.provider].charged_on
    if charged_on == "delivered" and receipt.status not in _ARRIVAL:
        return None
    try:
        return from_decimal(cost)
    except AmountError:
        return None  # no price at all (negative, beyond any amount): the list's stands


def _cost(work: Work, amount: int) -> dict[str, int]:
    """A cost, and apart once more where it is of a message that no baseline is compared with."""
    if work.message.baseline_cost is None:
        return {"cost": amount, NOT_COMPARED: amount}
    return {"cost": amount}


def _post(work: Work, measures: dict[str, int], charged: int | None = None) -> Post:
    """`charged` where the booking sets the charge: both prices are kept then."""
    message = work.message
    carries_money = not COUNTS.issuperset(measures)
    return Post(
        group=group_of(message, work.step, work.provider),
        measures=measures,
        message=message.id if carries_money else None,
        step=work.index if carries_money else -1,
        note=None if charged is None else {"list": work.list_price, "charged": charged},
        metadata=message.metadata if carries_money else None,
    )
