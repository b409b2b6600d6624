"""`kaskad report run`: the role that makes scheduled reports, and what is due of them at once.

What is done is in `gateway.reporter`. A configuration without schedules, and a library or secret
that one of them needs and is not there, are a UsageFault.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from gateway import crew, hangup
from gateway.cli.failures import DONE, FAILED, UsageFault
from gateway.cli.output import check_form
from gateway.cli.reach import redis_for_command, redis_for_role
from gateway.cli.roles.roles import prepare_redis, set_up_logs
from gateway.cli.tables import print_json
from gateway.core.views.words import rfc3339
from gateway.settings.file import Settings, load


def run_always(config: Path | None, environment: Mapping[str, str]) -> int:
    """Makes reports by the clock until it is told to stop."""
    hangup.hold()
    crew.follow_parent()
    settings = _settings(config, environment)
    set_up_logs("reports", environment)
    url = redis_for_role(settings, "report run")
    prepare_redis(settings, url, restored=False)
    from gateway.reporter import role

    role.run(_at(settings, url), crew.announce, crew.beat)
    return DONE


def run_once(config: Path | None, environment: Mapping[str, str], *, as_json: bool) -> int:
    """Makes what is due now; 1 when something of it is not there."""
    settings = _settings(config, environment)
    set_up_logs("reports", environment)
    from gateway.reporter import role

    with redis_for_command(settings, changes=True) as url:
        made, waiting = role.once(_at(settings, url))
    failed = [each for each in made or () if each.reason]
    if as_json:
        print_json({"made_elsewhere": made is None, "reports": [e._asdict() for e in made or ()]})
    elif made is None:
        sys.stdout.write("Another process makes them.\n")
    else:
        lines = [f"  {e.report} {e.period}: {e.reason or 'made'}\n" for e in made]
        lines += [
            f"  {e.report}: tried again at {rfc3339(e.again_ms)}, because {e.reason}\n"
            for e in waiting
        ]
        sys.stdout.write("".join(lines) or "Nothing is due.\n")
    return FAILED if failed else DONE


def _settings(config: Path | None, environment: Mapping[str, str]) -> Settings:
    settings = load(config, environment, secrets_required=False)
    if not settings.reports.schedule:
        raise UsageFault(f"{settings.path} has no [[reports.schedule]]: nothing is to be made.")
    for each in settings.reports.schedule:
        check_form(each.format, (each.format,))
        if each.url and not settings.secrets.get(each.secret_env):
            raise UsageFault(
                f"reports.schedule {each.name!r} in {settings.path} names the environment variable "
                f"{each.secret_env}, which is not set: set it to the secret that signs reports."
            )
    return settings


def _at(settings: Settings, url: str) -> Settings:
    return replace(settings, redis=replace(settings.redis, url=url))
