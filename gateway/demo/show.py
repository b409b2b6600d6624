"""What the tour looks like: a story with bars and tables, or one JSON document.

It decides nothing: it is told what happened.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from gateway.core.channels import BASELINE_COLUMN, label_of
from gateway.core.money.money import format_amount
from gateway.demo.acts import Act, OwnOrder, PauseShown, Reactions, Window
from gateway.demo.acts_view import drawn
from gateway.demo.archive import ArchiveShown
from gateway.demo.audience import CampaignFigures
from gateway.demo.audit import Books
from gateway.demo.campaign import SHOP
from gateway.demo.invoice import PLANTED, Invoice
from gateway.demo.reach import ReachShown
from gateway.finance.invoices.reconciled_formats import WORDS
from gateway.finance.reports.report import Figures

if TYPE_CHECKING:
    from gateway.demo.stage import Stage

Update = Callable[[CampaignFigures], None]
ACT_NAMES: dict[type[Act], str] = {
    Reactions: "reactions",
    OwnOrder: "own_order",
    Window: "send_window",
    PauseShown: "pause",
    ReachShown: "reach",
}

FIRST_MESSAGE = '{"to": "+447700900123", "category": "transactional", "text": "Hello from Kaskad."}'


class CampaignShown(msgspec.Struct, frozen=True):
    """What came of the campaign, before the acts."""

    figures: CampaignFigures
    books: Books
    seconds: float


class ShowResult(msgspec.Struct, frozen=True):
    """All of it; `books` are those of its end, `invoice` and `archived` None where there can be
    none."""

    campaign: CampaignShown
    acts: Sequence[Act]
    books: Books
    invoice: Invoice | None
    archived: ArchiveShown | None

    @property
    def agrees(self) -> bool:
        return (
            self.books.agree
            and (self.invoice is None or self.invoice.as_planted)
            and (self.archived is None or self.archived.agrees)
        )


class Show(Protocol):
    """The moments of a tour, in this order."""

    def begin(self, messages: int) -> None: ...
    def started(self, place: Stage) -> None: ...
    def progress(self, messages: int) -> AbstractContextManager[Update]: ...
    def campaign(self, campaign: CampaignShown) -> None: ...
    def act(self, act: Act) -> None: ...
    def result(self, place: Stage, result: ShowResult, *, keep: bool) -> None: ...
    def end(self, *, ok: bool) -> None: ...


class JsonShow:
    """Says nothing until the result."""

    def begin(self, messages: int) -> None:
        """Nothing to say."""

    def started(self, place: Stage) -> None:
        """Nothing to say."""

    def progress(self, messages: int) -> AbstractContextManager[Update]:  # noqa: ARG002
        return nullcontext(lambda _figures: None)

    def campaign(self, campaign: CampaignShown) -> None:
        """Nothing to say."""

    def act(self, act: Act) -> None:
        """Nothing to say."""

    def result(self, place: Stage, result: ShowResult, *, keep: bool) -> None:
        shape = summary(result)
        if keep:
            shape |= {"url": place.url, "key": place.key(SHOP)}
        sys.stdout.buffer.write(msgspec.json.encode(shape) + b"\n")
        sys.stdout.flush()

    def end(self, *, ok: bool) -> None:
        """Nothing to say."""


def summary(result: ShowResult) -> dict[str, Any]:
    """The result as a document; amounts are decimal strings. The figures are the campaign's, what
    the books say is of all."""
    figures, books = result.campaign.figures, result.campaign.books
    total, verdict, checks = books.total.total, result.books.verdict, result.books.checks
    return {
        "ok": result.agrees,
        "messages": figures.answered,
        "accepted": total.accepted,
        "duplicates": total.duplicates,
        "capped": figures.capped,
        "opted_out": figures.opted_out,
        **{f"{name}_delivered": delivered_by(books, name) for name in books.channels},
        "undelivered": total.accepted - total.delivered,
        "double_delivered": total.double_delivered,
        "cost": format_amount(total.cost),
        "billed": format_amount(total.billed),
        "currency": books.total.currency,
        "cost_per_delivered": total.cost_per_delivered,
        BASELINE_COLUMN: format_amount(total.baseline_cost),
        "saved": format_amount(total.saved),
        "saved_pct": total.saved_pct,
        "clicks": {
            name: {"clicked": figures.clicked, "bot_clicks": figures.bot_clicks}
            for name, figures in clicks_by_channel(books)
        },
        "acts": {ACT_NAMES[type(act)]: msgspec.to_builtins(act) for act in result.acts},
        "invoice": msgspec.to_builtins(result.invoice),
        "archive": msgspec.to_builtins(result.archived),
        "ledger_entries": verdict.entries,
        "ledger_agrees": verdict.agrees,
        "bill_agrees": all(check.agrees for check in checks),
        "checks": [{"what": c.what, "ours": c.ours, "theirs": c.theirs} for c in checks],
        "seconds": round(result.campaign.seconds, 1),
    }


def delivered_by(books: Books, channel: str) -> int:
    """Messages whose first delivery was on this channel."""
    return sum(line.figures.delivered for line in books.by_channel.lines if line.keys == (channel,))


def clicks_by_channel(books: Books) -> Iterator[tuple[str, Figures]]:
    """The channels of the route that have a line in the report."""
    figures = {line.keys[0]: line.figures for line in books.by_channel.lines}
    yield from ((name, figures[name]) for name in books.channels if name in figures)


class RichShow:
    """Tells the story on the terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._channels: tuple[str, ...] = ()

    def begin(self, messages: int) -> None:
        self._console.print(
            f"[bold]Kaskad[/bold] sends a campaign of [bold]{messages:,}[/bold] messages: the "
            "cheap channel first, the next where it does not reach the person, nobody twice, and a "
            "bill only for what was delivered.\n"
        )

    def started(self, place: Stage) -> None:
        grid = Table.grid(padding=(0, 2))
        for name, what in (
            ("Redis", "embedded, in a temporary directory"),
            (
                "Simulator",
                f"{place.simulator.base_url}  all the providers, and the phones",
            ),
            ("Ingress", f"{place.url}  the API, and the receipts"),
            (
                "Dispatcher",
                "sends, waits, falls back",
            ),
        ):
            grid.add_row("[green]started[/green]", f"[bold]{name}[/bold]", what)
        self._console.print(grid)
        self._channels = place.channels
        first = label_of(place.channels[0])
        self._console.print(
            "\nTwo apps stream the campaign; codes and receipts of payment are posted in between. "
            f"{place.share(place.channels[0]):.0%} of the people have {first}. Some are in the "
            "campaign twice, some had enough for today, some opted out.\n"
        )

    @contextmanager
    def progress(self, messages: int) -> Iterator[Update]:
        columns = (
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=44),
            MofNCompleteColumn(),
        )
        with Progress(*columns, console=self._console) as bars:
            answered = bars.add_task("Answered", total=messages)
            arrived = {
                name: bars.add_task(f"{label_of(name)} delivered", total=None)
                for name in self._channels
            }
            final = bars.add_task("Final", total=None)

            def update(figures: CampaignFigures) -> None:
                accepted = figures.accepted
                bars.update(answered, completed=figures.answered)
                for name, task in arrived.items():
                    count = figures.delivered.get(name, 0)
                    bars.update(task, completed=count, total=accepted or None)
                bars.update(final, completed=figures.final, total=accepted or None)

            yield update

    def campaign(self, campaign: CampaignShown) -> None:
        print_ = self._console.print
        print_()
        print_(_result_table(campaign.figures, campaign.books))
        print_(f"Every message is final after {campaign.seconds:.1f} s.\n")

    def act(self, act: Act) -> None:
        for part in drawn(act):
            self._console.print(part)

    def result(self, place: Stage, result: ShowResult, *, keep: bool) -> None:
        self._books(result.books)
        if result.invoice is not None:
            self._invoice(result.invoice, keep=keep)
        if result.archived is not None:
            self._archived(result.archived)
        if keep and result.agrees:
            self._around(place)
        else:
            self._console.print(
                "[bold]kaskad demo --keep[/bold] stays up afterwards: with the report as a page, "
                "the API's documents and a key to send with."
            )

    def _books(self, books: Books) -> None:
        print_ = self._console.print
        verdict = books.verdict
        if verdict.agrees:
            print_(
                f"[green]✓[/green] The ledger's {verdict.posts:,} bookings, added up again, equal "
                "the running totals."
            )
        else:
            print_(f"[red]✗[/red] The ledger differs from its totals: {verdict.differences[0]}")
        if all(check.agrees for check in books.checks):
            print_(
                "[green]✓[/green] The ledger equals the API's answers, and the provider's own bill "
                "to the last unit, with all that followed the campaign:"
            )
        else:
            print_("[red]✗[/red] The ledger and the provider's bill differ:")
        table = Table("", "Ours", "Theirs", box=SIMPLE, pad_edge=False, show_edge=False)
        for check in books.checks:
            style = "" if check.agrees else "bold red"
            table.add_row(check.what, check.ours, check.theirs, style=style)
        table.columns[1].justify = table.columns[2].justify = "right"
        print_(table)
        print_()

    def _invoice(self, invoice: Invoice, *, keep: bool) -> None:
        print_ = self._console.print
        mark = "[green]✓[/green]" if invoice.as_planted else "[red]✗[/red]"
        print_(
            f"{mark} An invoice of {invoice.provider} over {invoice.lines:,} lines, with "
            f"{len(PLANTED)} faults planted, against the ledger; to be claimed: "
            f"{invoice.claimed} {invoice.currency}"
        )
        for kind, lines in invoice.found.items():
            print_(f"  {WORDS[kind]}: {lines}")
        if invoice.workbook is not None:
            print_(
                f"  As a spreadsheet for the provider: {invoice.workbook}"
                if keep
                else "  Written as a spreadsheet for the provider, too.",
                soft_wrap=True,
            )
        print_()

    def _archived(self, archived: ArchiveShown) -> None:
        mark = "[green]✓[/green]" if archived.agrees else "[red]✗[/red]"
        before, after = archived.ledger_entries
        self._console.print(
            f"{mark} Archived: {archived.rows:,} rows in {archived.files} Parquet files, "
            f"{archived.bytes:,} bytes. Trimmed from Redis behind them: "
            f"{archived.messages_taken_out:,} closed messages, and {before - after:,} of "
            f"{before:,} ledger entries. Both together "
            f"{'equal' if archived.agrees else 'differ from'} the totals.\n"
        )

    def _around(self, place: Stage) -> None:
        curl = (
            f"curl -s {place.url}/v1/messages \\\n"
            '  -H "Authorization: Bearer $KASKAD_KEY" -H "Content-Type: application/json" \\\n'
            f"  -d '{FIRST_MESSAGE}'"
        )
        grid = Table.grid(padding=(0, 2))
        for name, path, note in (
            ("Report", "/reports", "any user name, the key below as the password"),
            ("Console", "/console", "likewise"),
            ("Documents", "/docs", ""),
            ("Metrics", "/metrics", ""),
        ):
            grid.add_row(f"[bold]{name}[/bold]", f"{place.url}{path}", f"[dim]{note}[/dim]")
        self._console.print(grid)
        self._console.print("\nSend a message yourself (it goes to the simulator):\n")
        self._console.print(f"export KASKAD_KEY={place.key(SHOP)}", soft_wrap=True)
        self._console.print(curl, soft_wrap=True, markup=False)
        self._console.print("\nStop it with ctrl-C.")

    def end(self, *, ok: bool) -> None:
        if ok:
            self._console.print("\nEverything that was started is stopped.")
        else:
            self._console.print("\n[bold red]The books do not agree: that is a fault.[/bold red]")


def _result_table(figures: CampaignFigures, books: Books) -> Table:
    total, currency = books.total.total, books.total.currency
    table = Table(title="The campaign", title_justify="left", box=SIMPLE, show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("", style="dim")
    first = label_of(books.channels[0])
    rows = [
        ("Accepted", f"{total.accepted:,}", ""),
        ("Duplicates", f"{total.duplicates:,}", "the same person and campaign again"),
        ("Capped", f"{figures.capped:,}", "one marketing message a day"),
        ("Opted out", f"{figures.opted_out:,}", ""),
        *(
            (
                f"Delivered by {label_of(name)}",
                f"{delivered_by(books, name):,}",
                f"{first} did not reach the person" if place else "",
            )
            for place, name in enumerate(books.channels)
        ),
        ("Undelivered", f"{total.accepted - total.delivered:,}", "never billed"),
        *(
            (
                f"Clicked in {label_of(name)}",
                f"{counted.clicked:,}",
                f"and {counted.bot_clicks:,} fetched by previewers and scanners",
            )
            for name, counted in clicks_by_channel(books)
        ),
        (
            "Delivered twice",
            f"{total.double_delivered:,}",
            f"{first} after all, when the next was out",
        ),
        (f"Cost, {currency}", format_amount(total.cost), "what the providers charge"),
        (f"Billed, {currency}", format_amount(total.billed), "what the apps pay"),
        ("Cost per delivered", total.cost_per_delivered or "–", ""),
        (
            f"{label_of(books.total.baseline)} only",
            format_amount(total.baseline_cost),
            f"the same without {first}",
        ),
        ("Saved", format_amount(total.saved), f"{total.saved_pct or '–'}%"),
    ]
    for name, figure, note in rows:
        strong = name in ("Cost per delivered", "Saved")
        table.add_row(name, figure, note, style="bold" if strong else "")
    return table
