"""A configuration that is read again while its role runs: what of it is taken over at once.

Rates, callback proofs, apps, channels, routes, categories, send windows, caps, budgets, consent,
links, stop words, what conversions are put down to and the price list are; everything else stays as
it is until a restart, and is named. A route or channel that names a provider which is not running
yet would have nobody to send for it, so channels and routes then wait for the restart too. Nothing
of a faulty file is taken. Messages under way keep the steps and prices they were accepted with;
whoever takes one over has its share as it is then. A provider that left the file, under this name
at least, runs on until the restart; where it left the price list as well, with the prices it had. A
file without a provider, while some run, is one that was just being written, and faulty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from itertools import chain
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from gateway.core.money.prices import PriceBook
from gateway.core.policy import Policy
from gateway.errors import ConfigurationError
from gateway.settings.bootstrap import load_prices, policy_of
from gateway.settings.file import Settings
from gateway.settings.tables import Document

LIVE_TABLES = (
    "apps",
    "caps",
    "budgets",
    "channels",
    "routes",
    "categories",
    "send_windows",
    "consent",
    "conversions",
    "optout",
    "links",
)
ROUTING = ("channels", "routes", "categories", "send_windows")
PRICE_FILE = ("prices", "file")
NO_PRICES = PriceBook(())

_log = structlog.get_logger("settings")


class Configuration:
    """What a role runs with: `settings` and `policy` are replaced as wholes, and only here.

    `read` reads the file again, as the role first did; `prices` is the list `policy` quotes."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        read: Callable[[], Settings],
        prices: PriceBook = NO_PRICES,
    ) -> None:
        self.settings = settings
        self.policy = policy
        self._read = read
        self._prices = prices

    def take_over(self) -> bool:
        """Reads the file again; False when it is faulty: every fault is logged, nothing changes.

        Reads files, so it belongs into a thread where a loop turns."""
        try:
            read = self._read()
            if self.settings.providers and not read.providers:
                raise ConfigurationError(f"{read.path}: names no provider, and some run: write it.")
            settings, waiting = taken_over(self.settings, read)
            leaving = settings.providers.keys() - read.providers.keys()
            prices = _with_those_of(leaving, self._prices, load_prices(settings))
            policy = policy_of(settings, prices)
        except ConfigurationError as error:
            for fault in str(error).splitlines():
                _log.error("configuration_refused", fault=fault)
            return False
        self.settings, self.policy, self._prices = settings, policy, prices
        for warning in settings.warnings:
            _log.warning("start_check", warning=warning)
        for key in waiting:
            _log.warning("needs_a_restart", key=key)
        return True


def taken_over(running: Settings, read: Settings) -> tuple[Settings, list[str]]:
    """The settings that hold from now on, and the keys of what needs a restart. Pure."""
    live: dict[str, Any] = {name: getattr(read, name) for name in LIVE_TABLES}
    waiting: list[str] = []
    if not _is_running(replace(running, channels=read.channels, routes=read.routes)):
        for name in ROUTING:
            del live[name]
            waiting += [name] if getattr(read, name) != getattr(running, name) else []
    providers = dict(running.providers)
    for name in {**running.providers, **read.providers}:
        before, now = running.providers.get(name), read.providers.get(name)
        if before is None or now is None or type(before) is not type(now):
            waiting.append(f"providers.{name}")
            continue
        differing = list(_differing(before, now))
        taken = {field: getattr(now, field) for field, _ in differing if _is_live(field)}
        providers[name] = replace(before, **taken)
        waiting += [f"providers.{name}.{key}" for field, key in differing if not _is_live(field)]
    for table in Document.__struct_fields__:
        if table not in ("providers", *LIVE_TABLES):
            changes = _differing(getattr(running, table), getattr(read, table))
            waiting += [f"{table}.{key}" for field, key in changes if (table, field) != PRICE_FILE]
    return replace(
        running,
        providers=providers,
        prices=replace(running.prices, file=read.prices.file),
        secrets=running.secrets.with_(read.secrets),
        warnings=read.warnings,
        **live,
    ), waiting


def _is_running(settings: Settings) -> bool:
    """Whether each of its steps has somebody to send for it, and all whom it names are there."""
    steps = [settings.senders(step) for route in settings.routes.values() for step in route.steps]
    shared = [settings.weights(channel) for channel in settings.channels]
    return all(steps) and {*chain(*steps), *chain(*shared)} <= settings.providers.keys()


def _with_those_of(leaving: Set[str], before: PriceBook, read: PriceBook) -> PriceBook:
    """The list that was read, with the rows that `leaving` had and have no more.

    Else a rename would leave the routes that go on until the restart without a price, and every
    message of them would be refused."""
    unpriced = leaving - {row.provider for row in read.rows}
    kept = [row for row in before.rows if row.provider in unpriced]
    return PriceBook((*read.rows, *kept)) if kept else read


def _is_live(field: str) -> bool:
    """Of a provider's table: its rate, and what its callbacks must carry."""
    return field == "rate_per_s" or field.startswith("callback_")


def _differing(before: msgspec.Struct, now: msgspec.Struct) -> Iterator[tuple[str, str]]:
    """The fields that differ, each with its key in the file."""
    for field in msgspec.structs.fields(type(before)):
        if getattr(before, field.name) != getattr(now, field.name):
            yield field.name, field.encode_name
