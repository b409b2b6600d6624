"""The words of the command line for finance: a provider's invoice.

As in `gateway.cli.app`, each command imports what it does when it is called.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import Config, Json


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
        str, typer.Option("--format", metavar="FORMAT", help="table, json or csv.")
    ] = "table",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; else to the terminal.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Hold a provider's invoice against what was booked; 1 where they differ.

    Every line has one class, the first that fits: on the invoice twice, unknown to us, missing on
    the invoice, billed though not delivered, another network, other parts, another price, rounding,
    matched.

    Example: `kaskad reconcile --provider infobip --invoice november.csv --map infobip`
    """
    from gateway.cli.reconciling import Wish
    from gateway.cli.reconciling import reconcile as run_reconcile

    chosen = "json" if as_json else form
    wish = Wish(provider, invoice, map_, from_day, to_day, chosen, out)
    return run_reconcile(config, os.environ, wish)
