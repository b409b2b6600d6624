"""What a step's progress books: sent, delivered, undelivered, the provider's charge and the app's
bill. Pure.

The app is billed once a message, at its first delivery, at the price fixed at acceptance. The
provider's charge is booked once a step, when that provider charges, and from then on only corrected
by what a receipt says it was; of several prices the highest stands, so that the order of receipts
does not matter. CONTRACT.md section 7.
"""

from __future__ import annotations

from gateway.core.effects import COUNTS, Post, group_of
from gateway.core.model import Message, Step
from gateway.core.money import AmountError, from_decimal
from gateway.core.policy import Policy
from providers.contract import Receipt

_ARRIVAL = ("delivered", "seen")


def sent(message: Message, index: int, step: Step, policy: Policy) -> Post:
    """The provider has the step."""
    if policy.providers[step.provider].charged_on != "sent":
        return _post(message, index, step, {"sent": 1})
    step.charged = step.cost * step.parts
    return _post(message, index, step, {"sent": 1, "cost": step.charged}, _prices(step))


def undelivered(message: Message, index: int, step: Step) -> Post:
    """The step ended without delivery."""
    return _post(message, index, step, {"undelivered": 1})


def delivered(
    message: Message, index: int, step: Step, price: int | None, *, given_up: bool
) -> Post:
    """The step arrived; `price` is what `price_in` found in its receipt.

    `given_up`: it had been booked as undelivered, which is taken back."""
    measures = {"parts": step.parts} if step.channel == "sms" else {}
    if given_up:
        measures["undelivered"] = -1
    note = None
    if step.charged is None:
        step.priced = price is not None
        step.charged = step.cost * step.parts if price is None else price
        measures["cost"] = step.charged
        note = _prices(step)
    if message.delivered_step >= 0:
        measures["double_delivered"] = 1
    else:
        message.delivered_step = index
        message.billed = step.sell * step.parts
        measures["delivered"] = 1
        measures["billed"] = message.billed
        # What an SMS would have cost; for a step that was one, what it did cost.
        measures["sms_only_cost"] = step.charged if step.channel == "sms" else message.sms_cost
    return _post(message, index, step, measures, note)


def corrected(message: Message, index: int, step: Step, price: int | None) -> Post | None:
    """The difference a receipt's price makes to a charge that is booked already; None when it makes
    none.

    A step that is not charged yet stays so: its provider charges for deliveries, and there is
    none."""
    if price is None or step.charged is None or (step.priced and price <= step.charged):
        return None
    difference = price - step.charged
    step.charged = price
    step.priced = True
    if difference == 0:
        return None
    measures = {"cost": difference}
    if step.channel == "sms" and message.delivered_step == index:
        measures["sms_only_cost"] = difference
    return _post(message, index, step, measures, _prices(step))


def price_in(receipt: Receipt, step: Step, policy: Policy) -> int | None:
    """The whole charge a receipt names, in 1e-6 units; None when it names none that counts: it must
    be of an arrival, or of anything when sending is charged."""
    cost = receipt.cost
    if receipt.part_cost is not None:
        cost = receipt.part_cost * step.parts
    if cost is None or receipt.currency != policy.currency:
        return None
    charged_on = policy.providers[step.provider].charged_on
    if charged_on == "delivered" and receipt.status not in _ARRIVAL:
        return None
    try:
        return from_decimal(cost)
    except AmountError:
        return None  # no price at all (negative, beyond any amount): the list's stands


def _prices(step: Step) -> dict[str, int]:
    return {"list": step.cost * step.parts, "charged": step.charged or 0}


def _post(
    message: Message,
    index: int,
    step: Step,
    measures: dict[str, int],
    note: dict[str, int] | None = None,
) -> Post:
    carries_money = not COUNTS.issuperset(measures)
    return Post(
        group=group_of(message, step),
        measures=measures,
        message=message.id if carries_money else None,
        step=index if carries_money else -1,
        note=note,
        metadata=message.metadata if carries_money else None,
    )
