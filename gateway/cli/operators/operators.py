"""The words of the command line for operators: status, keys and providers.

As in `gateway.cli.app`, each command imports what it does when it is called.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from gateway.cli.options import Config, Json

key_app = typer.Typer(help="API keys of the apps.")
provider_app = typer.Typer(help="Providers: how they are, and an operator's pause of one.")

archive_app = typer.Typer(help="The ledger and closed messages in files, and Redis behind them.")

ProviderName = Annotated[str, typer.Argument(metavar="NAME", help="As in the configuration.")]
ReasonOption = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with who and when.")]


def status(
    watch: Annotated[
        bool, typer.Option("--watch", help="Again every 2 seconds, until interrupted.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """What runs, what waits and how long, what limits each provider, pauses, and Redis' memory."""
    from gateway.cli.operators.status import status as tell_status

    return tell_status(config, os.environ, watch=watch, as_json=as_json)


@key_app.command("new")
def key_new(
    app_name: Annotated[
        str,
        typer.Option("--app", metavar="NAME", help="The app it belongs to.", show_default=False),
    ],
    scope: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="What it may do: of send, read, report (its own app's money), report-all, "
            "manage, operate.",
        ),
    ] = "send,read",
    name: Annotated[str, typer.Option(metavar="TEXT", help="What it is for; shown in lists.")] = "",
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="90d",
            help="After how long it ends by itself; else never.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Make an API key and print it, this once: only its hash is kept.

    Example: `kaskad key new --app shop --scope send,read --name till --expires 90d`
    """
    from gateway.cli.operators.keys import KeyWish, new

    return new(config, os.environ, KeyWish(app_name, scope, name, expires), as_json=as_json)


@key_app.command("list")
def key_list(config: Config = None, as_json: Json = False) -> int:
    """Every key of `kaskad key new`: how it begins, whose it is, what it may do, when it ends, and
    when it was last used, to a minute or so."""
    from gateway.cli.operators.keys import list_all

    return list_all(config, os.environ, as_json=as_json)


@key_app.command("revoke")
def key_revoke(
    id_: Annotated[
        str, typer.Argument(metavar="ID", help="Its id or prefix, as `kaskad key list` shows it.")
    ],
    config: Config = None,
    as_json: Json = False,
) -> int:
    """End a key: within 5 seconds it opens nothing any more, and what it had open ends.

    Example: `kaskad key revoke 3f9a0c52d871`
    """
    from gateway.cli.operators.keys import revoke

    return revoke(config, os.environ, id_, as_json=as_json)


@provider_app.command("pause")
def provider_pause(
    name: ProviderName, reason: ReasonOption = "", config: Config = None, as_json: Json = False
) -> int:
    """Send nothing to a provider until `resume`: within 2 seconds everywhere, and after a restart.

    What waits for it meanwhile is `when_away` of each category; receipts and look-ups go on.

    Example: `kaskad provider pause NAME --reason "maintenance until six"`
    """
    from gateway.cli.operators.providers import pause

    return pause(config, os.environ, name, reason, as_json=as_json)


@provider_app.command("resume")
def provider_resume(
    name: ProviderName, reason: ReasonOption = "", config: Config = None, as_json: Json = False
) -> int:
    """End a provider's pause, yours or one that began by itself; a fault that lasts begins anew."""
    from gateway.cli.operators.providers import resume

    return resume(config, os.environ, name, reason, as_json=as_json)


@provider_app.command("list")
def provider_list(config: Config = None, as_json: Json = False) -> int:
    """Every provider: whether it is up, or since when and why it is paused, and by whom."""
    from gateway.cli.operators.providers import list_all

    return list_all(config, os.environ, as_json=as_json)


@archive_app.command("run")
def archive_run(
    once: Annotated[bool, typer.Option("--once", help="One run, then end.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Archive what was booked and closed, and take it out of Redis behind verified files.

    Runs every `archive.every` until it is stopped, as a part of `kaskad up` does; one archives at a
    time. With `--once` it waits for a run under way, then takes everything from before it began.

    Example: `kaskad archive run --once`
    """
    from gateway.cli import archive

    if once:
        return archive.run_once(config, os.environ, as_json=as_json)
    from gateway.cli.roles.archiver import run_always

    return run_always(config, os.environ)


@archive_app.command("verify")
def archive_verify(config: Config = None, as_json: Json = False) -> int:
    """Read every file of the archive again; 1 where one is not as it was written."""
    from gateway.cli.archive import verify

    return verify(config, os.environ, as_json=as_json)


@archive_app.command("status")
def archive_status(config: Config = None, as_json: Json = False) -> int:
    """What is archived, how the last run went, and since when a booking waits to be."""
    from gateway.cli.archive import status as tell_status

    return tell_status(config, os.environ, as_json=as_json)
