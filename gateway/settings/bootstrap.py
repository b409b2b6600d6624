"""From the settings to what a running role works with: policy, store, providers, lanes.

The one translation of configured words into the core's and the store's values, for ingress,
dispatch, the command line and the tests alike. It opens no connection and starts nothing. A price
file that cannot be used raises PricesError; everything else was checked when the settings were
loaded.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from gateway.core.addresses import mailbox_of
from gateway.core.campaigns.send_windows import DAY_MS, MINUTE_MS, Hours, SendWindow
from gateway.core.links.urls import LinkRules, host_of
from gateway.core.money.budgets import Budget
from gateway.core.money.days import Days
from gateway.core.money.prices import PriceBook
from gateway.core.people.rates import MILLION
from gateway.core.people.stop_words import SHIPPED, words_of
from gateway.core.policy import (
    WHEN_AWAY_DEFAULT,
    AppRule,
    CategoryRule,
    LearnedWait,
    Policy,
    ProviderRule,
    Quote,
    ReachRule,
    RouteStep,
    nowhere,
)
from gateway.core.reactions.conversions import ConversionRule
from gateway.core.records.words import importance_named
from gateway.finance.reports.schedule import ReportSchedule
from gateway.settings import price_file
from gateway.settings.file import Settings
from gateway.settings.tables import DAYS, MONTH, App, SendWindowSettings, StepSettings, unrouted
from gateway.store.writes import Retention
from providers.contract import Category, Provider
from providers.http.adapter import CallbackReader
from providers.http.callback_proofs import CallbackAuth
from providers.http.callback_settings import CallbackSettings, callback_address, with_each_token
from providers.registry import KINDS
from ratelimit.caps import Cap, window_max_ms

# In the order in which they are sent: a code never waits behind a campaign.
CATEGORIES: tuple[Category, ...] = ("otp", "transactional", "marketing")


def load_prices(settings: Settings) -> PriceBook:
    """The configured price list. Raises PricesError with every fault of the file."""
    return price_file.load_prices(settings.prices.file, settings.prices.currency)


def callback_addresses(settings: Settings) -> dict[str, str]:
    """Where each kind of provider calls back that is told once, and not with each request."""
    return {
        provider.kind: callback_address(settings.provider(name))
        for name, provider in settings.providers.items()
    }


def days_of(settings: Settings) -> Days:
    """The days on which bookings count."""
    return Days(settings.reports.zone)


def schedules_of(settings: Settings) -> tuple[ReportSchedule, ...]:
    """The reports that are made by the clock."""
    return tuple(
        ReportSchedule(
            name=each.name,
            every=each.every,
            at=datetime.time.fromisoformat(each.at),
            group_by=each.group_by,
            filters=each.filters,
            form=each.format,
            folder=each.folder,
            url=each.url,
            secret=settings.secrets.get(each.secret_env),
        )
        for each in settings.reports.schedule
    )


def _quote_network(prices: PriceBook | Quote) -> Quote:
    """Most lists price no network, and then no receipt is asked for its own."""
    if isinstance(prices, PriceBook) and prices.names_networks:
        return prices.quote_network
    return nowhere


def policy_of(settings: Settings, prices: PriceBook | Quote) -> Policy:
    """The business rules' parameters. `prices` is a price list, or its `quote` alone."""
    caps = caps_of(settings)
    slots_ms = {category: window_max_ms(caps, category) for category in CATEGORIES}
    return Policy(
        routes={
            name: tuple(_route_step(settings, step) for step in route.steps)
            for name, route in settings.routes.items()
        },
        categories={name: _category_rule(settings, name) for name in CATEGORIES},
        providers={name: _provider_rule(settings, name) for name in settings.providers},
        caps=caps,
        budgets=budgets_of(settings),
        dedupe_ms=int(settings.dedupe.window_ms),
        slot_ms={category: ms for category, ms in slots_ms.items() if ms},
        currency=settings.prices.currency,
        quote=prices.quote if isinstance(prices, PriceBook) else prices,
        quote_network=_quote_network(prices),
        baseline=settings.prices.baseline,
        days=days_of(settings),
        apps={app.name: _app_rule(app) for app in settings.apps},
        own_users=settings.dedupe.users == "app",
        stop_words=words_of(settings.optout.words) or SHIPPED,
        consent=frozenset(settings.consent.require),
        send_windows={n: send_window_of(table) for n, table in settings.send_windows.items()},
        reach=_reach_rule(settings),
        conversions=ConversionRule(
            int(settings.conversions.click_window_ms), int(settings.conversions.delivery_window_ms)
        ),
        links=_link_rules(settings),
        best={
            name: route.order_by for name, route in settings.routes.items() if route.order == "best"
        },
        former=settings.former,
    )


def _route_step(settings: Settings, step: StepSettings) -> RouteStep:
    return RouteStep(
        providers=settings.senders(step),
        wait_ms=int(step.longest_ms),
        grace_ms=int(step.last_receipt_ms),
        learned=_learned_wait(step) if step.is_learned else None,
        until=step.until,
        react_ms=int(step.react_ms or 0),
        importance=importance_named(step.importance),
        importance_max=importance_named(step.importance_max),
    )


def _learned_wait(step: StepSettings) -> LearnedWait:
    grace_ms = None if step.grace_ms is None else int(step.grace_ms)
    return LearnedWait(int(step.shortest_ms), int(step.longest_ms), grace_ms)


def _reach_rule(settings: Settings) -> ReachRule:
    reach, usual = settings.reach, ReachRule()
    prior = {channel: round(share * MILLION) for channel, share in (reach.prior or {}).items()}
    return ReachRule(
        forget_ms=int(reach.forget_ms),
        hidden_seen=reach.hidden_seen,
        metric=reach.metric,
        prior={**usual.prior, **prior},
    )


def _link_rules(settings: Settings) -> LinkRules:
    links = settings.links
    return LinkRules(
        base_url=links.base_url,
        track=links.default == "track",
        ttl_ms=int(links.ttl_ms),
        hosts=frozenset(host_of(host) or host for host in links.hosts),
        utm=links.utm,
    )


def _app_rule(app: App) -> AppRule:
    return AppRule(
        countries=None if app.countries is None else frozenset(app.countries),
        senders=None
        if app.senders is None
        else frozenset(mailbox_of(sender) or sender for sender in app.senders),
        allows=frozenset(app.allow),
    )


def _category_rule(settings: Settings, category: Category) -> CategoryRule:
    rule = settings.categories.get(category) or unrouted(category)
    return CategoryRule(
        rule.route,
        int(rule.ttl_ms),
        rule.resend_unknown,
        rule.when_away or WHEN_AWAY_DEFAULT[category],
        send_window_of(settings.send_windows[rule.send_window]) if rule.send_window else None,
    )


def send_window_of(table: SendWindowSettings) -> SendWindow:
    """A send window as the pure rules read it."""
    from_ms, to_ms = _ms_of_day(table.from_), _ms_of_day(table.to)
    days = frozenset(DAYS.index(day) for day in table.days)
    return SendWindow(
        Hours(from_ms, to_ms if to_ms > from_ms else to_ms + DAY_MS, days),
        table.zone,
        table.unknown_zone,
        table.default_zone,
        table.country_zones,
    )


def _ms_of_day(text: str) -> int:
    hours, minutes = text.split(":")
    return (int(hours) * 60 + int(minutes)) * MINUTE_MS


def caps_of(settings: Settings) -> tuple[Cap, ...]:
    """The frequency caps as the pure rules read them: no channel stands for any."""
    return tuple(
        Cap(
            name=cap.name,
            limit=cap.limit,
            window_ms=int(cap.window_ms),
            window=cap.window_ms.text,
            category=cap.category,
            channel=None if cap.channel == "any" else cap.channel,
        )
        for cap in settings.caps
    )


def budgets_of(settings: Settings) -> tuple[Budget, ...]:
    """The budgets as the pure rules read them."""
    return tuple(
        Budget(
            name=each.name,
            limit=int(each.limit),
            window_ms=0 if each.window_ms.text == MONTH else int(each.window_ms),
            window=each.window_ms.text,
            then=each.then,
            warn=tuple(sorted(set(each.warn))),
            app=each.app,
            campaign=each.campaign,
            category=each.category,
            country=each.country,
            channel=each.channel,
            zone=settings.reports.zone,
        )
        for each in settings.budgets
    )


def retention_of(settings: Settings) -> Retention:
    """How long the store keeps closed messages, how many events an app, and how many campaigns
    apart."""
    return Retention(
        message_ms=int(settings.retention.messages_ms),
        unmatched_ms=int(settings.retention.parked_receipts_ms),
        raw_receipts_ms=int(settings.retention.raw_receipts_ms),
        events_max=settings.retention.events_max,
        campaigns_max=settings.reports.campaigns_max,
        archives=bool(settings.archive.url),
    )


def connect_provider(settings: Settings, name: str) -> Provider:
    """A provider as dispatch uses it; to be called under trio. Raises ValueError with a sentence
    when its keys cannot be used after all."""
    return KINDS[settings.providers[name].kind].connect(settings.provider(name))


def reconfigure_provider(settings: Settings, name: str, provider: Provider) -> None:
    """Tells a connected provider of the settings that changed while it runs."""
    kind = KINDS[settings.providers[name].kind]
    if kind.reconfigure is not None:
        kind.reconfigure(provider, settings.provider(name))


def callback_readers_of(settings: Settings) -> dict[str, CallbackReader]:
    """The wire format of each provider that calls back, by its configured name."""
    return {
        name: reader
        for name, provider in settings.providers.items()
        if (read := KINDS[provider.kind].callbacks) is not None
        and (reader := read(settings.provider(name))) is not None
    }


def callback_auths_of(settings: Settings) -> dict[str, CallbackAuth]:
    """What the callbacks of each provider that calls back must carry, by its configured name."""
    return {
        name: provider.callback_auth(settings.secrets.get, _called_at(settings, name))
        for name, provider in settings.providers.items()
        if isinstance(provider, CallbackSettings)
    }


def _called_at(settings: Settings, name: str) -> tuple[str, ...]:
    """Where a provider may call, since a message keeps the address that it was sent with: under
    each name and with each token, the present ones first."""
    configured = settings.provider(name)
    names = (name, *configured.settings.was)
    urls = map(settings.callback_url, names)
    return tuple(address for url in urls for address in with_each_token(configured, url))


def lanes_of(
    settings: Settings, categories: Iterable[Category] = CATEGORIES
) -> list[tuple[str, Category]]:
    """Every (provider, category) lane there is, those of earlier names too, the most urgent of each
    provider first."""
    wanted = tuple(categories)
    names = [part for name, each in settings.providers.items() for part in (name, *each.was)]
    return [(name, category) for name in names for category in wanted]


def _provider_rule(settings: Settings, name: str) -> ProviderRule:
    provider = settings.providers[name]
    kind = KINDS[provider.kind]
    return ProviderRule(
        channel=kind.channel,
        devices=kind.devices,
        charged_on=provider.charged_on,
        attempts_max=provider.attempts_max,
        retry_ms=int(provider.retry_delay_ms),
        can_look_up=kind.can_look_up,
        answers_late=kind.answers_late,
        retired=provider.retired,
        weight=settings.weights(kind.channel).get(name, 0),
    )
