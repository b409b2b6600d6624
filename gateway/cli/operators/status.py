"""`kaskad status`: what runs, what waits, what limits each provider, which webhooks are behind, how
full budgets and Redis are, and which reports were made.

It asks Redis, where every process tells how it is; a process that said nothing for 10 s is not
shown. As JSON it is what `GET /v1/ops` answers, with the processes beside it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway import telemetry
from gateway.cli.failures import DONE
from gateway.cli.reach import redis_for_command
from gateway.cli.tables import print_json, print_table
from gateway.core.policy import Policy
from gateway.ingress.api.operators.ops_view import Fleet, OpsView, fleet_of, view_of
from gateway.ingress.api.operators.remarks import remarks
from gateway.ingress.intake.backlog import Backlog
from gateway.ingress.intake.server_watch import ServerWatch, disk_free_of
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.settings import bootstrap
from gateway.settings.file import Settings, load
from gateway.store import redis_clock
from gateway.store.installation import snapshots
from gateway.store.store import Store

WATCH_EVERY_S = 2.0
CLEAR_SCREEN = "\x1b[H\x1b[2J"
PROVIDER_COLUMNS = ("provider", "state", "limited_by", "rate", "used", "in_flight", "errors")
SHARE_COLUMNS = ("channel", "provider", "weight", "configured", "now", "left_out", "handed_over")
SERVER_COLUMNS = ("shard", "used_bytes", "limit_bytes", "used_percent", "refuses")
BUDGET_COLUMNS = ("budget", "limit", "used", "reserved", "left", "window", "then", "warned")
WEBHOOK_COLUMNS = ("app", "name", "enabled", "disabled", "waiting", "failing_since")
REPORT_COLUMNS = ("report", "made", "made_at", "next", "due_at", "failed_at")
UNKNOWN = "unknown"  # what a process is that does not say its version


class InstallationStatus(NamedTuple):
    """`processes` are the versions of all that run, by name."""

    view: OpsView
    shared: Fleet
    processes: dict[str, str]
    now_ms: int


def status(
    config: Path | None, environment: Mapping[str, str], *, watch: bool, as_json: bool
) -> int:
    """Prints how everything is, once or until interrupted."""
    settings = load(config, environment, secrets_required=False)
    policy = bootstrap.policy_of(settings, lambda *_message: None)
    with redis_for_command(settings) as url:
        while True:
            found = run(url, lambda redis: _ask(redis, settings, policy))
            if watch and not as_json and sys.stdout.isatty():
                sys.stdout.write(CLEAR_SCREEN)
            _tell(found, as_json=as_json)
            sys.stdout.flush()
            if not watch:
                return DONE
            time.sleep(WATCH_EVERY_S)  # a terminal's refresh; ctrl-C ends it


async def _ask(redis: RedisClient, settings: Settings, policy: Policy) -> InstallationStatus:
    store = Store(
        redis, policy, shards=settings.redis.shards, retention=bootstrap.retention_of(settings)
    )
    now_ms = await redis_clock.now_ms(redis)
    backlog = Backlog(settings, store, lambda: now_ms)
    servers = ServerWatch(store, disk_free_of(settings))
    await backlog.sample()
    await servers.sample()
    names = await snapshots.processes(redis, now_ms)
    figures = list(telemetry.figures(await snapshots.of(redis, names)))
    shared = await fleet_of(store, figures, bootstrap.schedules_of(settings), now_ms)
    versions = telemetry.versions(figures)
    return InstallationStatus(
        view_of(policy, shared, backlog.states, servers.servers, now_ms),
        shared,
        {name: versions.get(name, UNKNOWN) for name in sorted(names)},
        now_ms,
    )


def _tell(found: InstallationStatus, *, as_json: bool) -> None:
    view = found.view
    if as_json:
        shape = msgspec.to_builtins(view) | {
            "processes": [
                {"name": name, "role": telemetry.role_of(name), "version": version}
                for name, version in found.processes.items()
            ],
            "remarks": list(remarks(*found)),
        }
        print_json(shape)
        return
    rows = [{"process": name, "version": version} for name, version in found.processes.items()]
    print_table(("process", "version"), rows, "Nothing runs.")
    providers = [
        {"provider": name} | msgspec.to_builtins(each) for name, each in view.providers.items()
    ]
    sys.stdout.write("\n")
    print_table(PROVIDER_COLUMNS, providers, "The configuration has no provider.")
    shares = [
        {"channel": each.channel, "provider": name} | msgspec.to_builtins(each.share)
        for name, each in view.providers.items()
        if each.share is not msgspec.UNSET
    ]
    if shares:
        sys.stdout.write("\n")
        print_table(SHARE_COLUMNS, shares, "")
    lanes = [msgspec.to_builtins(lane) for lane in view.lanes if lane.length]
    sys.stdout.write("\n")
    print_table(("provider", "category", "length", "age"), lanes, "Nothing waits.")
    if view.budgets:
        sys.stdout.write("\n")
        budgets = [{"budget": each.name} | msgspec.to_builtins(each) for each in view.budgets]
        print_table(BUDGET_COLUMNS, budgets, "")
    webhooks = [each for each in view.webhooks if each.waiting or each.failing_since]
    if webhooks:
        sys.stdout.write("\n")
        print_table(WEBHOOK_COLUMNS, list(map(msgspec.to_builtins, webhooks)), "")
    if view.reports:
        sys.stdout.write("\n")
        reports = [{"report": each.name} | msgspec.to_builtins(each) for each in view.reports]
        print_table(REPORT_COLUMNS, reports, "")
    servers = [msgspec.to_builtins(server) for server in view.redis.servers]
    sys.stdout.write("\n")
    print_table(SERVER_COLUMNS, servers, "Redis tells nothing of its memory.")
    for remark in remarks(*found):
        sys.stdout.write(f"\n{remark}\n")
