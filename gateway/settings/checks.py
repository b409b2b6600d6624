"""What a configuration must mean beside being well-formed: names that exist, limits that fit.

Touches no file; the environment is an argument. What is wrong is returned, and no check stops
another.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from gateway import traces
from gateway.core.campaigns.send_windows import RECIPIENT, zone_named
from gateway.core.channels import CHANNELS
from gateway.core.links.urls import UTM_NAMES, host_of, is_one_click
from gateway.core.people.stop_words import wish_in, words_of
from gateway.core.phones import COUNTRIES
from gateway.core.texts import is_plain_name
from gateway.decoding import KeyFault
from gateway.extras import MissingExtra
from gateway.settings import books_checks
from gateway.settings.books_checks import ZONE_RULE
from gateway.settings.known_names import none_such, table_of
from gateway.settings.route_checks import channel_faults, route_faults
from gateway.settings.tables import Document, Route
from providers.http.receivers import is_host
from providers.settings import address_faults

HEARTBEATS_A_LEASE_MIN = 2  # one may be lost before others take the work over

_NAME_RULE = "use up to 64 letters, digits, dots, dashes and underscores."

_not_in_host = re.compile(r"[\s/:@?#]").search
_in_braces = re.compile(r"\{([^{}]*)\}").findall


def faults(document: Document, table: Mapping[str, Any]) -> list[KeyFault]:
    """Everything that cannot work.

    `table` is the file as it was read: a provider with a fault of its own is left out of
    `document`, and a route that names it is not at fault for that.
    """
    return [
        *_names(document, table),
        *_server(document),
        *_providers(document),
        *_former_names(document, table),
        *channel_faults(document, table),
        *route_faults(document, table),
        *_categories(document, table),
        *_reach(document),
        *_links(document),
        *_send_windows(document),
        *_prices(document),
        *_lanes(document),
        *_traces(document),
        *books_checks.faults(document),
    ]


def warnings(document: Document) -> list[str]:
    """What works, but perhaps not as it was meant."""
    found = [
        f"providers.{name}.{key} {reason}"
        for name, provider in document.providers.items()
        for key, reason in provider.warnings()
    ]
    for name, route in document.routes.items():
        senders = {name for step in route.steps for name in document.senders(step)}
        asked = [document.providers[name] for name in senders & document.providers.keys()]
        found += _lowered(name, route, document)
        if asked and all(provider.retired for provider in asked):
            found.append(
                f"routes.{name} sends nothing: all its providers are retired, so messages that "
                "take it are refused."
            )
    for name, category in document.categories.items():
        if category.route not in document.routes:
            continue
        route = document.routes[category.route]
        start_ms = sum(step.longest_ms + step.last_receipt_ms for step in route.steps[:-1])
        if len(route.steps) > 1 and start_ms >= category.ttl_ms:
            found.append(
                f"categories.{name}: after silent steps the last one of {category.route} would "
                f"start after {start_ms // 1000} s, but a message lives for "
                f"{category.ttl_ms // 1000} s: shorten the waits or set a longer ttl."
            )
        found += (
            f"categories.{name}: the react of {step.name} in {category.route} is over after a "
            "message's ttl, so no step follows for want of a reaction: shorten it or set a longer "
            "ttl."
            for step in route.steps[:-1]
            if step.react_ms is not None and step.react_ms >= category.ttl_ms
        )
    words = document.optout.words
    found += (
        f"optout.words holds {word!r}, which has no letter or digit: no reply is held against it."
        for word in words
        if not words_of([word])
    )
    if (own := words_of(words)) and wish_in("stop", own) is None:
        found.append(
            "optout.words leaves out STOP: who writes that back is not opted out, as what stands "
            "there comes in place of the shipped words. Name it beside your own."
        )
    found += (
        f"webhooks.allow_hosts holds {host!r}, which is the host of no address: write it as "
        'addresses do, such as "hooks.internal", "10.0.0.5" or "::1".'
        for host in document.webhooks.allow_hosts
        if not is_host(host)
    )
    base_url = document.links.base_url or document.server.public_url
    if base_url and not is_one_click(base_url):
        found.append(
            "links.base_url is no https address: browsers warn of such links, and mail programs "
            f"offer no unsubscribing at {base_url}."
        )
    return [*found, *books_checks.warnings(document)]


def _lowered(name: str, route: Route, document: Document) -> Iterator[str]:
    """Where a channel cannot show what `until` asks, and where `react` says nothing."""
    for i, step in enumerate(route.steps):
        if step.name not in (document.providers if step.provider else CHANNELS):
            continue
        path = f"routes.{name}.steps[{i}]"
        channel = CHANNELS[document.channel_of(step)]
        shown = channel.can_show(step.until)
        if step.until == "clicked" and shown != "clicked":
            yield (
                f"{path}.until asks for clicked, which {channel.label} shows of messages with "
                f"tracked links alone: without one {shown} counts there."
            )
            continue
        if shown != step.until:
            yield (
                f"{path}.until asks for {step.until}, which {channel.label} cannot show: {shown} "
                "counts there."
            )
        if shown == "delivered" and step.react_ms is not None:
            yield f"{path}.react is not used: nothing is waited for once it is delivered."


def _names(document: Document, table: Mapping[str, Any]) -> Iterator[KeyFault]:
    for group in ("providers", "routes", "send_windows"):
        for name in table_of(table, group):
            if is_plain_name(name) is None:
                yield KeyFault(f"{group}.{name}", f"has a name that cannot be used: {_NAME_RULE}")
    for group, names in (
        ("apps", [app.name for app in document.apps]),
        ("caps", [cap.name for cap in document.caps]),
        ("budgets", [budget.name for budget in document.budgets]),
        ("reports.schedule", [each.name for each in document.reports.schedule]),
    ):
        for name, times in Counter(names).items():
            if times > 1:
                yield KeyFault(
                    group, f"has {times} entries named {name!r}: give each its own name."
                )
            if is_plain_name(name) is None:
                yield KeyFault(group, f"has an entry named {name!r}: {_NAME_RULE}")
    for i, app in enumerate(document.apps):
        if not app.scopes:
            yield KeyFault(f"apps[{i}].scopes", "is empty: name what the app may do.")
        for country in app.countries or ():
            if country not in COUNTRIES:
                yield KeyFault(
                    f"apps[{i}].countries",
                    f'holds {country!r}: write countries in two letters, such as "KZ".',
                )


def _traces(document: Document) -> Iterator[KeyFault]:
    if document.traces.endpoint:
        try:
            traces.require()
        except MissingExtra as missing:
            yield KeyFault("traces.endpoint", f"cannot be used. {missing}")


def _server(document: Document) -> Iterator[KeyFault]:
    server, url = document.server, document.server.public_url
    if server.admin_port and server.admin_port == server.port:
        yield KeyFault("server.admin_port", "is server.port as well: choose another.")
    if url:
        for key, reason in address_faults("server.public_url", url):
            yield KeyFault(key, reason)
    elif server.port == 0:
        yield KeyFault(
            "server.public_url", "is needed when server.port is 0, which means any port."
        )
    for text in document.server.trusted_proxies:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            reason = f'holds {text!r}: write an address or a network, such as "10.0.0.0/8".'
            yield KeyFault("server.trusted_proxies", reason)


def _providers(document: Document) -> Iterator[KeyFault]:
    for name, provider in document.providers.items():
        for key, reason in provider.faults():
            yield KeyFault(f"providers.{name}.{key}".rstrip("."), reason)


def _former_names(document: Document, table: Mapping[str, Any]) -> Iterator[KeyFault]:
    present = table_of(table, "providers")
    owner: dict[str, str] = {}
    for name, provider in document.providers.items():
        path = f"providers.{name}.was"
        for old in provider.was:
            if is_plain_name(old) is None:
                yield KeyFault(path, f"holds {old!r}: {_NAME_RULE}")
            elif old in present:
                yield KeyFault(path, f"names {old!r}, which is a provider of this file: drop one.")
            elif old in owner:
                yield KeyFault(path, f"names {old!r}, as {owner[old]} does: a name has one heir.")
            owner.setdefault(old, path)


def _reach(document: Document) -> Iterator[KeyFault]:
    for name in document.reach.prior or ():
        if name not in CHANNELS:
            yield KeyFault(f"reach.prior.{name}", f"is no channel, {none_such(CHANNELS)}")


def _links(document: Document) -> Iterator[KeyFault]:
    links = document.links
    if links.base_url:
        for key, reason in address_faults("links.base_url", links.base_url):
            yield KeyFault(key, reason)
    for host in links.hosts:
        if host_of(host) is None or _not_in_host(host) is not None:
            yield KeyFault("links.hosts", f"holds {host!r}: name hosts, such as shop.example.")
    for key, value in links.utm.items():
        strange = [name for name in _in_braces(value) if name not in UTM_NAMES]
        if strange:
            known = ", ".join(f"{{{name}}}" for name in UTM_NAMES)
            yield KeyFault(f"links.utm.{key}", f"holds {{{strange[0]}}}: there are {known}.")


def _prices(document: Document) -> Iterator[KeyFault]:
    baseline = document.prices.baseline
    if baseline not in CHANNELS:
        yield KeyFault("prices.baseline", f"names the channel {baseline!r}, {none_such(CHANNELS)}")


def _categories(document: Document, table: Mapping[str, Any]) -> Iterator[KeyFault]:
    routes = table_of(table, "routes")
    for name, category in document.categories.items():
        if category.route not in routes:
            yield KeyFault(
                f"categories.{name}.route",
                f"names the route {category.route!r}, {none_such(routes)}",
            )
        window = category.send_window
        if window is not None and window not in (known := table_of(table, "send_windows")):
            yield KeyFault(
                f"categories.{name}.send_window",
                f"names the send window {window!r}, {none_such(known)}",
            )


def _send_windows(document: Document) -> Iterator[KeyFault]:
    for name, window in document.send_windows.items():
        path = f"send_windows.{name}"
        if window.from_ == window.to or window.from_ == "24:00":
            yield KeyFault(f"{path}.from", 'leaves no hour: write a time before "to" or after it.')
        if not window.days:
            yield KeyFault(f"{path}.days", "is empty: name a day at least.")
        zones = {"default_zone": window.default_zone}
        zones |= {f"country_zones.{country}": z for country, z in window.country_zones.items()}
        zones |= {"zone": window.zone} if window.zone != RECIPIENT else {}
        for key, zone in zones.items():
            if zone_named(zone) is None:
                yield KeyFault(f"{path}.{key}", f"is {zone!r}: {ZONE_RULE}")
        for country in window.country_zones:
            if country not in COUNTRIES:
                yield KeyFault(
                    f"{path}.country_zones",
                    f'holds {country!r}: write countries in two letters, such as "KZ".',
                )


def _lanes(document: Document) -> Iterator[KeyFault]:
    lanes = document.lanes
    if lanes.lease_ms < HEARTBEATS_A_LEASE_MIN * lanes.heartbeat_ms:
        yield KeyFault(
            "lanes.lease",
            f"must be at least {HEARTBEATS_A_LEASE_MIN} times lanes.heartbeat, "
            "so that one lost heartbeat does not give the work away.",
        )
