"""Our ledger against the provider's bill, and against what the API answered: to the last unit.

Pure. The two sides come from programs that share no code.
"""

from __future__ import annotations

import msgspec

from gateway.core.channels import CHANNELS, label_of
from gateway.core.money.money import format_amount, parse_amount
from gateway.demo.audience import CampaignFigures
from gateway.finance.reports.report import Figures as Booked
from gateway.finance.reports.report import Report
from gateway.finance.reports.verify import Verdict
from providers.simulator.book import Bill, ChannelBill


class Check(msgspec.Struct, frozen=True):
    """One figure on both sides, as a person reads it."""

    what: str
    ours: str
    theirs: str

    @property
    def agrees(self) -> bool:
        return self.ours == self.theirs


class Books(msgspec.Struct, frozen=True):
    """What was booked, and whether it agrees."""

    total: Report
    by_channel: Report
    verdict: Verdict
    checks: list[Check]
    channels: tuple[str, ...]  # of the campaign's route

    @property
    def agree(self) -> bool:
        return self.verdict.agrees and all(check.agrees for check in self.checks)


def against_bill(by_channel: Report, bill: Bill) -> list[Check]:
    """The cost report by channel against what the simulator took, delivered and charges: each
    channel that stands in either."""
    booked = {line.keys[0]: line.figures for line in by_channel.lines}
    charged: dict[str, ChannelBill] = {line.channel: line for line in bill.channels}
    checks = []
    for channel in (name for name in CHANNELS if name in booked or name in charged):
        ours = booked.get(channel, Booked())
        theirs = charged.get(channel)
        arrived = ours.delivered + ours.double_delivered
        sums = (theirs.accepted, theirs.delivered, theirs.charge) if theirs else (0, 0, "0")
        name = label_of(channel)
        checks += [
            Check(f"{name}: messages taken", str(ours.sent), str(sums[0])),
            Check(f"{name}: delivered", str(arrived), str(sums[1])),
            Check(
                f"{name}: charged, {by_channel.currency}",
                format_amount(ours.cost),
                format_amount(parse_amount(sums[2])),
            ),
        ]
    repeated = sum(line.requests - line.messages for line in bill.channels)
    return [*checks, Check("Sent twice", "0", str(repeated))]


def against_webhooks(figures: CampaignFigures, told: int) -> Check:
    """The messages that are final against those that the apps' receiver was told of."""
    return Check("Final, and told by webhook", str(figures.final), str(told))


def against_links(total: Booked, people: int) -> Check:
    """The clicks that count against the people who followed a link: programs are none of them."""
    return Check("Clicked, and links followed by people", str(total.clicked), str(people))


def against_answers(total: Booked, figures: CampaignFigures) -> list[Check]:
    """The report's sums of requests against what the API said to each."""
    suppressed = figures.capped + figures.opted_out
    return [
        Check("Accepted", str(total.accepted), str(figures.accepted)),
        Check("Duplicates", str(total.duplicates), str(figures.duplicates)),
        Check("Suppressed", str(total.suppressed), str(suppressed)),
    ]
