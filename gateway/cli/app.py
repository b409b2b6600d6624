"""The words of the command line: commands, options, their help, and the parsing of it all.

Each command imports what it does when it is called. A bad word or value is one sentence on stderr
and exit code 2, as in `failures`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import Exit, TyperException

from gateway.cli.books import books
from gateway.cli.failures import DONE, UNUSABLE, UsageFault, tell
from gateway.cli.operators import operators
from gateway.cli.options import Config, Json, Restored
from gateway.cli.terminal import leave_stdout

INTERRUPTED = 130  # how typer names a KeyboardInterrupt

SHOW = "Show it"
RUN = "Run it"
ASK = "Ask it"
OPERATE = "Operate it"

app = typer.Typer(
    help="Kaskad sends a message over one channel, falls back to the next, and bills only what was "
    "delivered.",
    epilog=(
        "Begin with `kaskad demo`. Every command has `--help`. Configuration: `--config FILE` "
        "after the command, else `KASKAD_CONFIG`, else the shipped default. Exit codes: 0 done, "
        "2 bad usage or configuration, 1 anything else."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(books.report_app, name="report", rich_help_panel=ASK, no_args_is_help=True)
app.add_typer(books.ledger_app, name="ledger", rich_help_panel=ASK, no_args_is_help=True)
app.add_typer(operators.archive_app, name="archive", rich_help_panel=OPERATE, no_args_is_help=True)
app.add_typer(books.prices_app, name="prices", rich_help_panel=ASK, no_args_is_help=True)
app.add_typer(operators.key_app, name="key", rich_help_panel=OPERATE, no_args_is_help=True)
app.add_typer(
    operators.provider_app, name="provider", rich_help_panel=OPERATE, no_args_is_help=True
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from gateway.version import VERSION

        sys.stdout.write(f"kaskad {VERSION}\n")
        raise Exit(DONE)


@app.callback()
def kaskad(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Show the version and end."
        ),
    ] = False,
) -> None:
    """Kaskad sends a message over one channel, falls back to the next, and bills only what was
    delivered."""


def run(arguments: Sequence[str]) -> int:
    """Runs one command line (without the program's name) and returns its exit code."""
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except OSError as fault:
        leave_stdout()
        return code or tell(fault)
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        command = typer.main.get_command(app)
        outcome = command.main(list(arguments), prog_name="kaskad", standalone_mode=False)
    except Exit as end:
        return end.exit_code
    except TyperException as misuse:
        return _misused(misuse)
    except (Exception, KeyboardInterrupt) as fault:
        return tell(fault)
    if outcome == INTERRUPTED:
        return tell(KeyboardInterrupt())
    return outcome if isinstance(outcome, int) else DONE


def _misused(misuse: TyperException) -> int:
    context = getattr(misuse, "ctx", None)
    path = context.command_path if context is not None else "kaskad"
    sentence = misuse.format_message().strip()
    if not sentence:
        # A group without a command: the help has gone to stdout already.
        return UNUSABLE
    sentence = sentence if sentence[-1] in ".?!" else f"{sentence}."
    sys.stderr.write(f"{sentence} See `{path} --help`.\n")
    return UNUSABLE


# --- show it ---


@app.command(rich_help_panel=SHOW)
def demo(
    messages: Annotated[
        int, typer.Option(min=1, max=200_000, help="How many messages the campaign has.")
    ] = 2_000,
    seed: Annotated[
        int, typer.Option(min=0, max=2**53, help="Chooses the people, and how each is reached.")
    ] = 1,
    port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65_535,
            help="Where the API listens; 0: 8080 with --keep, else any free port.",
        ),
    ] = 0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Stay up afterwards, to look around.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Show the whole system at work on this machine, with nothing to set up.

    Starts an embedded Redis, a simulator of the providers, the API and a dispatcher; sends a
    campaign with duplicates, capped and opted-out people in it; waits until every message is final.
    Then, on a few people each: a cascade that ends with a reaction, somebody's own order of
    channels, a send window, a pause and a resume. Prints the bill, holds it against the
    simulator's, and stops what it started.

    Examples: `kaskad demo`, `kaskad demo --messages 500 --keep`
    """
    from gateway.demo.tour import TourOptions, tour

    options = TourOptions(
        messages=messages, seed=seed, port=port, keep=keep, json=as_json, config=config
    )
    return tour(options, os.environ)


# --- run it ---


@app.command(rich_help_panel=RUN)
def up(config: Config = None, restored: Restored = False) -> int:
    """Run everything on this machine: API, dispatcher and, without `redis.url`, Redis.

    Stays in the foreground until ctrl-C or SIGTERM, and starts again whatever dies.

    Examples: `kaskad up`, `kaskad up --config /etc/kaskad.toml`
    """
    from gateway.cli.roles.up import up as run_up

    return run_up(config, os.environ, restored=restored)


@app.command(rich_help_panel=RUN)
def serve(
    config: Config = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes; else server.workers.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Interface; else server.host.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port; else server.port.")
    ] = None,
) -> int:
    """Run the API alone: any number of machines against one Redis.

    Examples: `kaskad serve`, `kaskad serve --workers 4 --host 0.0.0.0 --port 8080`
    """
    from gateway.cli.roles.roles import serve as run_serve

    return run_serve(config, os.environ, workers=workers, host=host, port=port)


@app.command(rich_help_panel=RUN)
def dispatch(config: Config = None, restored: Restored = False) -> int:
    """Run a dispatcher alone: any number of machines against one Redis.

    Together they never exceed a provider's rate, and one takes over what another held when it died.
    """
    from gateway.cli.roles.roles import dispatch as run_dispatch

    return run_dispatch(config, os.environ, restored=restored)


@app.command(rich_help_panel=RUN)
def simulate(
    config: Config = None,
    host: Annotated[str, typer.Option(help="Interface to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 8090,
    seed: Annotated[int, typer.Option(min=0, max=2**53, help="What every draw starts from.")] = 1,
    share: Annotated[
        float,
        typer.Option("--viber-share", min=0, max=1, help="Share of phone numbers that have Viber."),
    ] = 0.53,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="The key it asks for; else that of the configured providers.", show_default=False
        ),
    ] = None,
    knob: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Any other knob, as often as needed.", show_default=False
        ),
    ] = None,
    people: Annotated[
        Path | None,
        typer.Option(
            help="File of people's habits (TOML), in place of shares; see docs/calling.md.",
            show_default=False,
        ),
    ] = None,
    book: Annotated[
        Path | None,
        typer.Option(
            help="File that messages, bill and receipts due survive a kill in, up to 4 GiB.",
            show_default=False,
        ),
    ] = None,
    smtp_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port that takes mails by SMTP; 0: none.")
    ] = 0,
    smpp_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port that speaks SMPP as an SMSC; 0: none.")
    ] = 0,
    smtps_port: Annotated[
        int,
        typer.Option(
            min=0, max=65_535, help="Port that takes mails by TLS from the start; 0: none."
        ),
    ] = 0,
    smtp_tls: Annotated[
        Path | None,
        typer.Option(
            show_default=False, help="Folder of a certificate for mails, made if missing."
        ),
    ] = None,
) -> int:
    """Run the simulator of the providers: their wire formats, made-up phones, a real bill.

    Prices come from the configured price file. `GET /_sim/knobs?explain=1` lists every knob, and
    `PUT /_sim/knobs` turns them while it runs; `GET /_sim/bill` is what it would charge, and
    `GET /_sim/clicks` what people with habits clicked.

    Examples: `kaskad simulate`, `kaskad simulate --viber-share 0.8 --knob repeat_share=0.1`
    """
    from gateway.cli.roles.roles import Simulation
    from gateway.cli.roles.roles import simulate as run_simulate

    knobs = (f"viber_share={share}", *(knob or ()))
    doors = (smtp_port, smpp_port, smtps_port, smtp_tls)
    simulation = Simulation(host, port, seed, api_key, knobs, people, book, *doors)
    return run_simulate(config, os.environ, simulation)


# --- ask it ---


@app.command("copy", rich_help_panel=RUN)
def copy_all(
    to: Annotated[
        str | None, typer.Option("--to", metavar="URL", help="An empty Redis.", show_default=False)
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="How many there then are.", show_default=False),
    ] = None,
    back: Annotated[
        bool,
        typer.Option("--take-back", help="The copy is not used: roles may start here again."),
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Copy everything into another Redis, and compare, while Kaskad is stopped.

    Interrupted, it begins anew when it is run again. Afterwards no role starts on the old one.

    Example: `kaskad copy --to redis://redis.internal:6379 --shards 16`
    """
    from gateway.cli.operators.copying import copy, take_back

    if back == (to is not None):
        raise UsageFault("Name a Redis with --to, or give --take-back alone.")
    if to is None:
        return take_back(config, os.environ)
    return copy(config, os.environ, to, shards, as_json=as_json)


@app.command(rich_help_panel=RUN)
def erase(
    phone: Annotated[
        str | None, typer.Option(metavar="PHONE", help="In E.164.", show_default=False)
    ] = None,
    email: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="An e-mail address.", show_default=False)
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="An app's own id.", show_default=False)
    ] = None,
    app_name: Annotated[
        str | None,
        typer.Option("--app", metavar="NAME", help="Whose id, where each app has its own."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Forget a person, for every app; opt-outs and the ledger's money stay.

    Live messages are cancelled, and all lose addresses, text and metadata. It may be repeated.

    Example: `kaskad erase --phone +79161234567`
    """
    from gateway.cli.operators.erase import NamedPerson
    from gateway.cli.operators.erase import erase as run_erase
    from gateway.core.addresses import Recipient

    named = NamedPerson(Recipient(phone or None, email or None), user, app_name)
    return run_erase(config, os.environ, named, as_json=as_json)


@app.command(rich_help_panel=ASK)
def check(config: Config = None, as_json: Json = False) -> int:
    """Validate the configuration and reach Redis; every fault with file, key and reason.

    Ends with 2 when something has to be repaired, and changes nothing.
    """
    from gateway.cli.operators.check import check as run_check

    return run_check(config, os.environ, as_json=as_json)


app.command(rich_help_panel=OPERATE)(operators.status)
app.command(rich_help_panel=ASK)(books.reconcile)
app.command(rich_help_panel=OPERATE)(books.close)
