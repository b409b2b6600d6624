"""`kaskad check`: would Kaskad start, and what is in the way?

Findings are collected from where they are known (settings, price file, Redis) and printed. Nothing
is changed: an embedded Redis is not started, only its directory is tried.
"""

from __future__ import annotations

import datetime
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from gateway.cli.failures import DONE, FAILED, UNUSABLE
from gateway.cli.output import check_form
from gateway.cli.tables import print_json
from gateway.core import phones
from gateway.core.campaigns.campaigns import NO_WINDOW, Campaign
from gateway.core.campaigns.send_windows import RECIPIENT, first_open_ms
from gateway.extras import MissingExtra
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisError
from gateway.redis.server import binary
from gateway.redis.server.binary import EmbeddedRedisError
from gateway.settings import bootstrap
from gateway.settings.file import Settings, SettingsError, load
from gateway.settings.price_file import PricesError
from gateway.store import quarantine, shared_keys
from gateway.store.campaigns.declarations import Declarations
from gateway.store.installation import api_keys, installation
from gateway.store.providers import pauses
from gateway.store.waiting import leftovers

UNREAD_SHOWN = 100
_NUMBERING = {
    "shared": 'is "shared": a `user` id means the same person in every app.',
    "app": 'is "app": a `user` id means a person in its own app alone.',
}
REPAIR = (
    "It alone is held up: repair or delete it, then delete its field of the quarantine "
    "(docs/operating.md)."
)

FindingLevel = Literal["error", "warning", "note"]


class Remark(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing to repair or to know: where, which key or column, and why. `passing`: Redis does
    not answer, which is no fault of the configuration."""

    level: FindingLevel
    file: str
    key: str
    reason: str
    passing: bool = False


def check(config: Path | None, environment: Mapping[str, str], *, as_json: bool) -> int:
    """Prints every fault; 2 when the configuration has an error, 1 when only Redis is away."""
    try:
        settings = load(config, environment)
    except SettingsError as error:
        faults = [Remark("error", f.file, f.key, f.reason) for f in error.faults]
        where = faults[0].file
    else:
        faults = list(faults_of(settings))
        where = str(settings.path)
    errors = [fault for fault in faults if fault.level == "error"]
    if as_json:
        shape = {"ok": not errors, "file": where, "faults": faults}
        print_json(shape)
    else:
        _print(where, faults)
    if not errors:
        return DONE
    return FAILED if all(fault.passing for fault in errors) else UNUSABLE


def faults_of(settings: Settings) -> Iterator[Remark]:
    """What is wrong around a configuration that can be read."""
    path = str(settings.path)
    for warning in settings.warnings:
        key, _, reason = warning.partition(" ")
        yield Remark("warning", path, key.rstrip(":"), reason)
    try:
        prices = bootstrap.load_prices(settings)
    except PricesError as error:
        for fault in error.faults:
            place = f"line {fault.line}" + (f", {fault.column}" if fault.column else "")
            yield Remark("error", error.source, place, fault.reason)
    else:
        priced = {row.provider for row in prices.rows}
        for name in sorted(settings.providers.keys() - priced):
            reason = f"has no line for the provider {name}: its messages would be refused."
            yield Remark("warning", str(settings.prices.file), "provider", reason)
    for key, reason in settings.notes:
        yield Remark("note", path, key, reason)
    yield from _closed_windows(settings, path)
    yield from _schedules(settings, path)
    if len(settings.apps) > 1:
        yield Remark("note", path, "dedupe.users", _NUMBERING[settings.dedupe.users])
    yield from _redis_faults(settings, path)


def _closed_windows(settings: Settings, path: str) -> Iterator[Remark]:
    """Send windows that are open at no hour for the numbers of some countries."""
    now_ms = time.time_ns() // 1_000_000
    for name, table in settings.send_windows.items():
        window = bootstrap.send_window_of(table)
        if window.zone != RECIPIENT or window.unknown_zone != "intersect":
            continue
        never = [
            country
            for country in sorted(phones.COUNTRIES - window.country_zones.keys())
            if (zones := phones.zones_of_country(country))
            and first_open_ms(window.hours, zones, now_ms) is None
        ]
        if never:
            reason = (
                f"is open at no hour in all zones that a number of {', '.join(never)} may be in: "
                "name these countries in country_zones, or choose another unknown_zone."
            )
            yield Remark("warning", path, f"send_windows.{name}", reason)


def _schedules(settings: Settings, path: str) -> Iterator[Remark]:
    """Reports by the clock that could not be made on this machine."""
    for i, schedule in enumerate(settings.reports.schedule):
        key, folder = f"reports.schedule[{i}]", schedule.folder
        if folder and not (Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            reason = f"is {folder}, which is no folder that can be written here: make it."
            yield Remark("warning", path, f"{key}.folder", reason)
        try:
            check_form(schedule.format, (schedule.format,))
        except MissingExtra as missing:
            yield Remark("warning", path, f"{key}.format", f"cannot be written here. {missing}")


def _redis_faults(settings: Settings, path: str) -> Iterator[Remark]:
    url = settings.redis.url
    if not url:
        socket = binary.socket_path(settings.redis.data_dir.absolute())
        if not binary.answers(socket):
            yield from _directory_faults(settings.redis.data_dir, path)
            return
        url = f"unix://{socket}"
    shards, currency = settings.redis.shards, settings.prices.currency
    findings = installation.look(url, shards, currency, zone=settings.reports.zone)
    for finding in findings:
        passing = finding.code in installation.AWAY_CODES
        yield Remark(finding.level, path, "redis.url", finding.sentence, passing)
    if any(finding.level == "error" for finding in findings):
        return
    try:
        yield from run(url, lambda client: _held(client, settings, path))
    except RedisError as error:
        yield Remark("error", path, "redis.url", str(error), passing=True)


async def _held(client: RedisClient, settings: Settings, path: str) -> list[Remark]:
    """What Redis holds that somebody should look at."""
    shards = settings.redis.shards
    known = {name for name, _category in bootstrap.lanes_of(settings)}
    waiting = await leftovers.waiting(client, shards, known)
    declared = Declarations()
    await declared.look(client, time.time_ns() // 1_000_000)
    return [
        *_leftovers(waiting, path),
        *_gone(declared.declared.campaigns, settings, path),
        *_unread(await _read_unread(client, shards)),
    ]


def _gone(campaigns: Mapping[str, Campaign], settings: Settings, path: str) -> Iterator[Remark]:
    """What campaigns name that is gone from the configuration; it counts as none."""
    windows = {*settings.send_windows, NO_WINDOW}
    for name, campaign in sorted(campaigns.items()):
        if campaign.route is not None and campaign.route not in settings.routes:
            reason = (
                f"is not there, and the campaign {name} names it: messages take their category's."
            )
            yield Remark("warning", path, f"routes.{campaign.route}", reason)
        if campaign.send_window is not None and campaign.send_window not in windows:
            reason = f"is not there, and the campaign {name} names it: the category's holds."
            yield Remark("warning", path, f"send_windows.{campaign.send_window}", reason)


def _leftovers(waiting: Mapping[str, int], path: str) -> Iterator[Remark]:
    """Messages that wait for providers of a former configuration."""
    for name, count in waiting.items():
        reason = (
            f"is not there, and {count} message{'s wait' if count > 1 else ' waits'} for it: they "
            f'go on with their next step, or say was = ["{name}"] at the provider that it is now.'
        )
        yield Remark("warning", path, f"providers.{name}", reason)


def _unread(unread: list[tuple[str, str]]) -> Iterator[Remark]:
    """What Redis holds that could not be read or decided, and what to do about it."""
    for what, reason in unread[:UNREAD_SHOWN]:
        yield Remark("warning", "Redis", what, reason)
    if len(unread) > UNREAD_SHOWN:
        yield Remark("warning", "Redis", "", f"has {len(unread) - UNREAD_SHOWN} more of these.")


async def _read_unread(client: RedisClient, shards: int) -> list[tuple[str, str]]:
    found = []
    for each in await quarantine.listed(client, shards):
        at = datetime.datetime.fromtimestamp(each.at_ms // 1000, datetime.UTC).isoformat()
        reason = f"was set aside at {at}: {each.reason.rstrip('.')}. {REPAIR}"
        found.append((each.what, reason))
    for name, pause in (await pauses.read(client)).items():
        if pause == pauses.UNREADABLE:
            reason = "cannot be read, so the provider is tried again at once: delete the field."
            found.append((f"{shared_keys.PAUSED} {name}", reason))
    for name in await api_keys.unreadable(client):
        reason = "cannot be read, so its API key is refused: delete the field and make a new key."
        found.append((f"{shared_keys.API_KEYS} {name}", reason))
    return found


def _directory_faults(data_dir: Path, path: str) -> Iterator[Remark]:
    """Whether an embedded Redis could be started here. Makes no directory."""
    try:
        _path, version = binary.find_binary()
        binary.check_files(data_dir, version)
    except EmbeddedRedisError as error:
        yield Remark("error", path, "redis", str(error))
    existing = next(folder for folder in (data_dir, *data_dir.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        reason = f"is {data_dir}, and {existing} cannot be written: choose another directory."
        yield Remark("error", path, "redis.data_dir", reason)
        return
    if existing == data_dir and binary.is_open_to_others(data_dir):
        reason = f"is {data_dir}, which is open to other users: the next start makes it 0700."
        yield Remark("warning", path, "redis.data_dir", reason)
    if binary.is_full(existing):
        reason = f"is {data_dir}, and Redis cannot write there. {binary.NO_ROOM}"
        yield Remark("error", path, "redis.data_dir", reason)


def _print(where: str, faults: list[Remark]) -> None:
    """A line a fault, whole: a key that is cut to fit a table cannot be searched for."""
    for fault in sorted(faults, key=lambda each: each.level != "error"):
        stream = sys.stderr if fault.level == "error" else sys.stdout
        places = [fault.file, fault.key] if fault.key else [fault.file]
        stream.write(": ".join((fault.level, *places, fault.reason)) + "\n")
    errors = sum(fault.level == "error" for fault in faults)
    if errors:
        sys.stderr.write(f"{where}: {errors} to repair.\n")
    else:
        sys.stdout.write(f"{where} is good: prices, secrets and Redis are in order.\n")
