"""What a step's progress books: sent, delivered, undelivered, the provider's charge and the app's
bill. Pure; it changes nothing, the cascade applies what is returned.

The app is billed once a leg, at its first delivery, at the price fixed at acceptance; the baseline
is compared once a message. The provider's charge is booked once an attempt, when that provider
charges, and from then on only corrected by what a receipt says it was, or at last by an accepted
invoice. So that the order of receipts does not matter, of several prices the highest stands, and a
failure that costs nothing takes the charge back for as long as nothing arrived. Parts that are
charged without their text are booked beside that (`loose`). CONTRACT.md section 7.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from gateway.core.channels import BASELINE_COLUMN, CHANNELS
from gateway.core.effects import COUNTS, NOT_COMPARED, IgnoredPrice, WhyIgnored, group_of
from gateway.core.money.days import day_of
from gateway.core.money.money import AmountError, from_decimal
from gateway.core.policy import Policy, nowhere
from gateway.core.records.attempt import Attempt
from gateway.core.records.entries import Group, Post
from gateway.core.records.message import Message, Step
from gateway.core.records.words import ReactionName
from providers.contract import Receipt

# A receipt's price beyond so many list prices, or beyond so many times what the app pays where the
# list says that it costs nothing, is taken for a mistake.
TIMES_LIST_MAX = 10

NO_MESSAGE = ""  # of a booking in money, which is not added up with others of its batch

_ARRIVAL = ("delivered", "seen")
_FAILURE = ("undelivered", "expired", "rejected")


class Booking(msgspec.Struct, frozen=True, gc=False):
    """A post, and what the records say from then on: the attempt's charge, whether a receipt named
    it, what was taken back of it, the bill where the step bills its leg, and what its loose parts
    cost. None: nothing, or as before."""

    post: Post | None
    charged: int | None = None
    priced: bool = False
    waived: int | None = None
    billed: int | None = None
    loose: int | None = None


class ToldPrice(msgspec.Struct, frozen=True, gc=False):
    """What a receipt says of the charge, in 1e-6 units: a price that counts, that a failure is
    free, or a price that is not believed."""

    price: int | None = None
    free: bool = False
    ignored: IgnoredPrice | None = None


_NOTHING = ToldPrice()


class Work(msgspec.Struct, frozen=True, gc=False):
    """One provider's work on one step of a message: what is booked is booked for it."""

    message: Message
    index: int
    step: Step
    attempt: Attempt
    provider: str
    policy: Policy

    @property
    def list_price(self) -> int:
        """What the provider charges for all parts, by the price list: in the network that took it
        where that is known and priced, else by the phone's prefix."""
        cost = self.attempt.network_cost
        if cost is None:
            cost = self.step.candidates[self.attempt.candidate].cost
        return cost * self.step.parts

    @property
    def arrival(self) -> int:
        """The how-manieth of the step's attempts it was to arrive; 0: it did not."""
        return self.step.arrival_of(self.attempt)


def sent(work: Work) -> Booking:
    """The provider has the step."""
    if work.policy.provider(work.provider).charged_on != "sent" or work.attempt.invoiced:
        return Booking(_post(work, {"sent": 1}))
    charged = work.list_price
    return Booking(_post(work, {"sent": 1} | _cost(work, charged), charged), charged)


def reacted(work: Work, kind: ReactionName) -> Post:
    """The person reacted to the step, whoever of its providers had it."""
    return _post(work, {kind: 1})


def converted(work: Work, value: int, *, counts: bool) -> Post:
    """The step has a conversion of that value; it does not count where it corrects another."""
    measures = {"conversions": 1} if counts else {}
    return _post(work, measures | {"revenue": value} if value else measures)


def assisted(work: Work) -> Post:
    """The step had its part in a conversion that another channel has."""
    return _post(work, {"assisted": 1})


def undelivered(work: Work, times: int = 1) -> Booking:
    """The step ended without delivery; -1: that is taken back."""
    return Booking(_post(work, {"undelivered": times}))


def delivered(work: Work, price: int | None, *, given_up: bool, again: bool) -> Booking:
    """The step arrived; `price` is the one that `price_in` found in its receipt.

    `given_up`: it had been booked as undelivered, which is taken back. `again`: its leg is billed,
    because another step of it arrived before, or the same step by another provider."""
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
    if again:
        measures["double_delivered"] = 1
        return Booking(_post(work, measures, noted), charged, priced, attempt.waived)
    billed = step.sell * step.parts
    measures["delivered"] = 1
    measures["billed"] = billed
    if message.baseline_cost is not None and message.delivered_step < 0:
        # A step of the baseline's own channel is compared with what it did cost.
        is_baseline = step.channel == work.policy.baseline
        measures[BASELINE_COLUMN] = charged if is_baseline else message.baseline_cost
    return Booking(_post(work, measures, noted), charged, priced, attempt.waived, billed)


def corrected(work: Work, named: ToldPrice) -> Booking | None:
    """The difference that a receipt makes to a charge that is booked already; None when nothing
    changes.

    What is not charged yet stays so: its provider charges for deliveries, and there is none. Nor
    does a receipt change what an accepted invoice says."""
    attempt = work.attempt
    if attempt.charged is None or attempt.invoiced:
        return None
    if named is _NOTHING and attempt.network_cost is None and attempt.waived is None:
        return None
    # What the charge is, or would be if it had not been taken back.
    standing = attempt.charged if attempt.waived is None else attempt.waived
    priced = attempt.priced
    if attempt.network_cost is not None and not priced:
        standing = work.list_price
    if named.price is not None and not (priced and named.price <= standing):
        standing, priced = named.price, True
    waived = None
    if (named.free or attempt.waived is not None) and not work.arrival:
        waived = standing
    charged = standing if waived is None else 0
    if (charged, priced, waived) == (attempt.charged, attempt.priced, attempt.waived):
        return None
    difference = charged - attempt.charged
    if difference == 0:
        return Booking(None, charged, priced, waived)
    return Booking(_post(work, _correction(work, difference), charged), charged, priced, waived)


def invoiced(work: Work, amount: int, invoice: str) -> Booking | None:
    """What an accepted invoice makes of the charge; None where it is that already."""
    difference = amount - (work.attempt.cost or 0)
    if difference == 0:
        return None
    post = _post(work, _correction(work, difference), amount)
    return Booking(replace(post, invoice=invoice), amount, priced=True, loose=0)


def loose(work: Work, *, awaited: bool) -> Booking | None:
    """What parts cost that are charged without their text, less what is booked for them; None where
    that is all. `awaited`: the text may yet be charged as a whole, so that its parts wait for that.

    A part costs what the list says by the phone's prefix, and an accepted invoice has the last
    word."""
    attempt, step = work.attempt, work.step
    if attempt.invoiced:
        return None
    whole = attempt.ids if awaited else ()
    price = step.candidates[attempt.candidate].cost
    cost = price * len([id_ for id_ in attempt.loose_ids if id_ not in whole])
    difference = cost - attempt.loose_cost
    if difference == 0:
        return None
    post = _post(work, _cost(work, difference))
    note = {"list": difference, "parts": abs(difference) // price, "loose": 1}
    return Booking(replace(post, note=note), loose=cost)


def uninvoiced(provider: str, channel: str, amount: int, invoice: str) -> Post:
    """What an accepted invoice asks for beyond every charge of ours: for lines that are nothing of
    ours, and for what rounding leaves."""
    group = Group(channel=channel, provider=provider)
    measures = {"cost": amount, NOT_COMPARED: amount}
    return Post(group, measures, message=NO_MESSAGE, invoice=invoice)


def learn_network(work: Work, receipt: Receipt) -> bool:
    """Keeps what the list says of the network that a receipt names, as of the day of acceptance; of
    several the dearest. True where that is news."""
    if receipt.network is None or work.policy.quote_network is nowhere:
        return False
    message, known = work.message, work.attempt.network_cost
    day = day_of(message.created_ms)
    price = work.policy.quote_network(work.provider, receipt.network, message.category, day)
    if price is None or (known is not None and price.cost <= known):
        return False
    work.attempt.network_cost = price.cost
    return True


def price_in(work: Work, receipt: Receipt) -> ToldPrice:
    """What a receipt says of the charge. A price counts that is of an arrival, or of anything when
    sending is charged; a failure is free that costs nothing, in whatever currency."""
    cost = receipt.cost
    if receipt.part_cost is not None:
        cost = receipt.part_cost * work.step.parts
    if cost is None:
        return _NOTHING
    arrival = receipt.status in _ARRIVAL
    if cost == 0 and receipt.status in _FAILURE:
        return ToldPrice(free=True)
    if receipt.currency != work.policy.currency and (cost != 0 or arrival):
        return _ignored(work, receipt, "currency")
    if not arrival and work.policy.provider(work.provider).charged_on == "delivered":
        return _NOTHING
    try:
        price = from_decimal(cost)
    except AmountError:  # negative, or beyond any amount
        return _ignored(work, receipt, "amount")
    if price > TIMES_LIST_MAX * (work.list_price or work.step.sell * work.step.parts):
        return _ignored(work, receipt, "amount")
    return ToldPrice(price)


def _ignored(work: Work, receipt: Receipt, why: WhyIgnored) -> ToldPrice:
    cost = receipt.cost if receipt.part_cost is None else receipt.part_cost
    ignored = IgnoredPrice(
        why, work.provider, work.message.id, str(cost), receipt.currency, work.list_price
    )
    return ToldPrice(ignored=ignored)


def _correction(work: Work, difference: int) -> dict[str, int]:
    """A cost that changes; where the step is what the baseline is compared with, that too."""
    measures = _cost(work, difference)
    compared = work.message.baseline_cost is not None
    is_baseline = compared and work.step.channel == work.policy.baseline
    if is_baseline and work.message.delivered_step == work.index and work.arrival == 1:
        measures[BASELINE_COLUMN] = difference
    return measures


def _cost(work: Work, amount: int) -> dict[str, int]:
    """A cost, and apart once more where it is of a message that no baseline is compared with."""
    if work.message.baseline_cost is None:
        return {"cost": amount, NOT_COMPARED: amount}
    return {"cost": amount}


def _post(work: Work, measures: dict[str, int], charged: int | None = None) -> Post:
    """`charged` where the booking sets the charge: both prices are kept then, and the parts that
    are charged for where nothing else says them."""
    message = work.message
    carries_money = not COUNTS.issuperset(measures)
    note = None
    if charged is not None:
        note = {"list": work.list_price, "charged": charged}
        if "sent" in measures and CHANNELS[work.step.channel].price_unit == "part":
            note["parts"] = work.step.parts
    return Post(
        group=group_of(message, work.index, work.provider),
        measures=measures,
        message=message.id if carries_money else None,
        step=work.index if carries_money else -1,
        note=note,
    )
