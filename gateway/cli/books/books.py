"""The words of the command line for the books: reports, the ledger's lines, prices, invoices and
months.

As in `gateway.cli.app`, each command imports what it does when it is called.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import Config, Json

report_app = typer.Typer(help="What was sent, what it cost, and whether the books agree.")
ledger_app = typer.Typer(help="What was booked, line by line.")
prices_app = typer.Typer(help="The price list: what is doubtful in it, and lists of providers.")

FirstDay = Annotated[
    str | None, typer.Option("--from", metavar="DAY", help="First day, as 2026-11-01.")
]
LastDay = Annotated[
    str | None, typer.Option("--to", metavar="DAY", help="Last day, which counts; else today.")
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Only this app, campaign, ...; may be repeated.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where to write it; else to stdout.", show_default=False),
]


@report_app.command("cost")
def report_cost(
    config: Config = None,
    from_day: FirstDay = None,
    to_day: LastDay = None,
    group_by: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="Of day, month, app, campaign, variant, category, route, step, channel, provider, "
            "country, hour.",
            show_default=False,
        ),
    ] = "",
    where: Where = None,
    rates: Annotated[
        bool,
        typer.Option(
            "--rates",
            help="Beside each row's other columns its click rate, and within what it lies.",
        ),
    ] = False,
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="table, json, csv or xlsx.")
    ] = "table",
    out: Out = None,
    as_json: Json = False,
) -> int:
    """What was sent and delivered, what it cost, and what was saved.

    Examples: `kaskad report cost --group-by channel`, `kaskad report cost --from 2026-11-01
    --group-by day,campaign --format csv`, `kaskad report cost --where app=shop`
    """
    from gateway.cli.books.reports import CostQuestion, cost

    question = CostQuestion(from_day, to_day, group_by, tuple(where or ()))
    shape = "json" if as_json else form
    return cost(config, os.environ, question, shape, out, rates=rates)


@report_app.command("verify")
def report_verify(
    config: Config = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="Begin with the first booking, always."),
    ] = False,
    as_json: Json = False,
) -> int:
    """Add the ledger up again and compare it with the running totals; 1 when they differ.

    Begins where the last comparison that agreed ended, whole days behind; what has changed there
    since is noticed, and then all is compared.
    """
    from gateway.cli.books.reports import verify

    return verify(config, os.environ, full=full, as_json=as_json)


@report_app.command("run")
def report_run(
    once: Annotated[
        bool, typer.Option("--once", help="Make what is due now, and end; 1 where one failed.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Make the reports of `[[reports.schedule]]` by the clock: a part of `kaskad up`.

    Wherever it runs, one process at a time makes them. `--json` is for `--once`.

    Examples: `kaskad report run`, `kaskad report run --once`
    """
    from gateway.cli.roles.reporter import run_always, run_once

    if once:
        return run_once(config, os.environ, as_json=as_json)
    return run_always(config, os.environ)


@ledger_app.command("export")
def ledger_export(
    config: Config = None,
    from_day: FirstDay = None,
    to_day: LastDay = None,
    where: Where = None,
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="csv, ndjson, parquet or xlsx.")
    ] = "csv",
    out: Out = None,
) -> int:
    """The lines behind a report, one an amount; `cost`, `adjust` and `reverse` add up to its cost,
    `bill` to what it says was billed.

    Examples: `kaskad ledger export --from 2026-11-01 --to 2026-11-30 --out november.csv`, `kaskad
    ledger export --where campaign=autumn --format xlsx --out autumn.xlsx`
    """
    from gateway.cli.books.ledger import export
    from gateway.cli.books.reports import CostQuestion

    question = CostQuestion(from_day, to_day, "", tuple(where or ()))
    return export(config, os.environ, question, form, out)


@prices_app.command("check")
def prices_check(config: Config = None, as_json: Json = False) -> int:
    """Gaps, rows that say nothing and sells below cost in the configured price list; 1 where there
    are some.

    A list that cannot be used is exit code 2, as with `kaskad check`.
    """
    from gateway.cli.books.prices import check

    return check(config, os.environ, as_json=as_json)


@prices_app.command("import")
def prices_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The list as CSV.")],
    shape: Annotated[
        str,
        typer.Option("--from", metavar="WHOSE", help="infobip or twilio.", show_default=False),
    ],
    provider: Annotated[
        str,
        typer.Option(metavar="NAME", help="As in the configuration.", show_default=False),
    ],
    markup: Annotated[
        str, typer.Option(metavar="PERCENT", help="What apps pay on top of the cost.")
    ] = "0",
    valid_from: Annotated[
        str | None, typer.Option(metavar="DAY", help="From when it counts; else today.")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(metavar="FACTOR", help="What one unit of the list's currency is in ours."),
    ] = None,
    out: Out = None,
    config: Config = None,
) -> int:
    """Turn a provider's published price list into rows of a price file.

    Nothing is put into place: look at what it wrote, add it to the configured list, and run
    `kaskad prices check`.

    Example: `kaskad prices import list.csv --from infobip --provider main --markup 20`
    """
    from gateway.cli.books.prices import ImportWish, import_prices

    wish = ImportWish(file, shape, provider, markup, valid_from, rate)
    return import_prices(config, os.environ, wish, out)


def reconcile(
    provider: Annotated[
        str,
        typer.Option(metavar="NAME", help="As in the configuration.", show_default=False),
    ],
    invoice: Annotated[Path, typer.Option(metavar="FILE", help="CSV or XLSX.", show_default=False)],
    map_: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="MAP",
            help="How it is written: a TOML file, or infobip, twilio, vonage, semicolons.",
            show_default=False,
        ),
    ] = None,
    from_day: Annotated[
        str | None,
        typer.Option("--from", metavar="DAY", help="Its first day; else that of its lines."),
    ] = None,
    to_day: Annotated[
        str | None, typer.Option("--to", metavar="DAY", help="Its last day, which counts.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="table, json, csv or xlsx.")
    ] = "table",
    out: Out = None,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="Book what makes our cost equal to the invoice; may be repeated."
        ),
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Hold a provider's invoice against what was booked; 1 where they differ.

    Every line has one class, the first that fits: on the invoice twice, unknown to us, missing on
    the invoice, billed though not delivered, another network, other parts, another price, rounding,
    matched.

    Example: `kaskad reconcile --provider infobip --invoice november.csv --map infobip`
    """
    from gateway.cli.books.reconciling import ReconcileWish
    from gateway.cli.books.reconciling import reconcile as run_reconcile

    chosen = "json" if as_json else form
    wish = ReconcileWish(provider, invoice, map_, from_day, to_day, chosen, out, accept)
    return run_reconcile(config, os.environ, wish)


def close(
    month: Annotated[str, typer.Argument(metavar="MONTH", help="Such as 2026-11.")],
    out: Out = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Freeze a month: its report is written with a hash, and never changes.

    Refused while it is not over or steps are open that could still bill, with which and until when.
    A closed month's report is told again, byte for byte.

    Example: `kaskad close 2026-11 --out 2026-11.json`
    """
    from gateway.cli.books.closing import close as run_close

    return run_close(config, os.environ, month, out, as_json=as_json)
