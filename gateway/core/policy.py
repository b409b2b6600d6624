"""The business rules' parameters, as one frozen value: what `admit` and `advance` consult beside
the records.

Built once from the settings at start-up (`gateway.settings.bootstrap`), passed down, never changed.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Container, Mapping
from typing import Literal

import msgspec
from msgspec.structs import replace

from gateway.core.campaigns.campaigns import NONE_DECLARED, Declared
from gateway.core.campaigns.send_windows import SendWindow
from gateway.core.channels import BASELINE_DEFAULT, CHANNELS, ChannelRow, Until, priors
from gateway.core.links.urls import LinkRules
from gateway.core.money.budgets import Budget
from gateway.core.money.days import UTC_DAYS, Days
from gateway.core.money.prices import Price
from gateway.core.people.stop_words import SHIPPED
from gateway.core.reactions.conversions import ConversionRule
from gateway.core.records.message import Message
from gateway.core.records.words import Importance
from providers.contract import Category
from ratelimit.caps import Cap

Quote = Callable[[str, str, str, datetime.date], Price | None]

OrderBy = Literal["cost", "rate"]
HiddenSeen = Literal["delivered", "fallback"]
Metric = Literal["clicked", "any", "converted"]
WhenAway = Literal["skip", "wait", "hold"]
WHEN_AWAY_DEFAULT: dict[Category, WhenAway] = {
    "otp": "skip",
    "transactional": "wait",
    "marketing": "hold",
}

# After a lost answer the provider is asked, then again after twice as long each time.
LOOK_UP_MIN_MS, LOOK_UP_MAX_MS = 5_000, 300_000
NOT_FOUND_MIN = 2  # how often a provider says it does not know a step before it is sent again
SENDING_LIMIT_MS = 120_000  # a claim nobody recovered in this long counts as a lost answer
TTL_MAX_MS = 30 * 86_400_000  # the longest that a message may be worth sending
AHEAD_MAX_MS = 30 * 86_400_000  # the furthest ahead that a message may be sent for
RETRY_DELAY_MAX_MS = 300_000
# A step that is claimed sooner after it was queued is not asked again whether it reaches anybody: a
# backlog would pay for it with a read a message.
PLANNED_LATELY_MS = 600_000
# Between two looks whether the provider of a waiting step is away.
AWAY_LOOK_MIN_MS, AWAY_LOOK_MAX_MS = 60_000, 600_000
# Of the last step of a route, whose provider is away: as long as it waits already.
PASSED_OVER_MIN_MS, PASSED_OVER_MAX_MS = 1_000, 10_000


def nowhere(provider: str, network: str, category: str, day: datetime.date) -> Price | None:
    """A list that prices no network apart."""


class AppRule(msgspec.Struct, frozen=True):
    """What bounds an app: the countries of phones it may send to, and the senders it may name;
    None: any. `allows` are the dear tariffs it may send to."""

    countries: frozenset[str] | None = None
    senders: frozenset[str] | None = None
    allows: frozenset[str] = frozenset()


class LearnedWait(msgspec.Struct, frozen=True):
    """Bounds of a wait that is learned, and the grace after it; None: as long as is usual."""

    min_ms: int
    max_ms: int
    grace_ms: int | None = None


class RouteStep(msgspec.Struct, frozen=True):
    """One step of a route: `providers` are the candidates of one channel.

    `until` is what the step waits for; a reaction for `react_ms` after its delivery. Messages of
    less than `importance` or of more than `importance_max` skip it. With `learned` it waits as long
    as its provider usually takes, `wait_ms` at most."""

    providers: tuple[str, ...]
    wait_ms: int
    grace_ms: int
    until: Until = "delivered"
    react_ms: int = 0
    importance: int = Importance.LOW
    importance_max: int = Importance.HIGH
    learned: LearnedWait | None = None


class ResolvedStep(msgspec.Struct, frozen=True):
    """A step of a route as these providers can do it: `sending` are those that are not retired,
    `until` is what counts where the channel cannot show what is asked for. `by_device`: not every
    one of them reaches every address of the channel."""

    step: RouteStep
    channel: ChannelRow
    sending: tuple[str, ...]
    until: Until
    by_device: bool = False


class CategoryRule(msgspec.Struct, frozen=True):
    """`route` "": each message names its own. `resend_unknown`: a lost answer is sent again under
    the same id (`answers_late`: under another) instead of being waited for. `when_away`: what a
    step does whose provider is away: it is passed over at once while a later one can run, it waits
    as long as it may, or it is held until the provider is back. `send_window`: the hours in which
    its steps may start; None: any."""

    route: str
    ttl_ms: int
    resend_unknown: bool = False
    when_away: WhenAway = "wait"
    send_window: SendWindow | None = None


class ProviderRule(msgspec.Struct, frozen=True):
    """`attempts_max` bounds temporary refusals and, apart from them, lost answers; `retry_ms` is
    the first delay, doubled each time. `retired`: nothing new is sent. `weight` is its share of its
    channel; 0: none, it is sent what names it. `answers_late`: an answer that was lost may come
    yet, so that what is sent again has another reference, by which both answers are told apart."""

    channel: str
    # The one kind of devices that it reaches; empty: every address of its channel.
    devices: str = ""
    charged_on: Literal["delivered", "sent"] = "delivered"
    attempts_max: int = 3
    retry_ms: int = 1_000
    can_look_up: bool = False
    answers_late: bool = False
    retired: bool = False
    weight: int = 1

    @property
    def shares(self) -> bool:
        """Whether it may take over what another of its channel does not send."""
        return self.weight > 0 and not self.retired


class ReachRule(msgspec.Struct, frozen=True):
    """`forget_ms`: how long a person counts as not reachable on a channel. `metric` is what counts
    as a reaction; `prior`, in millionths, how often a person of whom nothing is known does it on a
    channel. `hidden_seen`: a step that waits for `seen` of somebody who hides that ends on its
    delivery, or goes on as for anybody."""

    forget_ms: int = 30 * 86_400_000
    hidden_seen: HiddenSeen = "delivered"
    metric: Metric = "clicked"
    prior: dict[str, int] = msgspec.field(default_factory=priors)


# Of a provider that this configuration does not have: it was removed, or another process has it.
UNKNOWN_PROVIDER = ProviderRule(channel="")


_UNBOUND = AppRule()  # an app that is gone from the configuration has no key of it


def names_of(provider: str, former: Mapping[str, str]) -> tuple[str, ...]:
    """A provider's present name, then the earlier ones; `former` has each with the present."""
    return (provider, *(old for old, name in former.items() if name == provider))


class Policy(msgspec.Struct, frozen=True):
    """`resolved` are the steps of `routes`, looked up once for all messages, and so are `learning`,
    `counts`, `shared`, `holds_steps` and `holds_for_zone`. `declared` is what was read last of
    campaigns; all else is configured."""

    routes: dict[str, tuple[RouteStep, ...]]
    categories: dict[Category, CategoryRule]
    providers: dict[str, ProviderRule]
    caps: tuple[Cap, ...]
    dedupe_ms: int  # how long a claim lasts once delivered
    slot_ms: dict[str, int]  # category: the longest window that can count its slots
    currency: str
    quote: Quote  # (provider, digits, category, day): the list price of one unit
    baseline: str = BASELINE_DEFAULT  # the channel that reports compare with
    days: Days = UTC_DAYS  # on which bookings count
    quote_network: Quote = nowhere  # (provider, network, category, day): the list price there
    former: dict[str, str] = {}  # an earlier name of a provider: its present one
    apps: dict[str, AppRule] = {}
    own_users: bool = False  # each app numbers its users for itself
    stop_words: frozenset[str] = SHIPPED  # as `stop_words.words_of` gives them
    consent: frozenset[Category] = frozenset()  # what needs a recorded opt-in
    reach: ReachRule = ReachRule()
    conversions: ConversionRule = ConversionRule()
    links: LinkRules = LinkRules()
    best: dict[str, OrderBy] = {}  # routes that are put in order for each person, and by what
    resolved: dict[str, tuple[ResolvedStep, ...]] = {}
    learning: frozenset[str] = frozenset()  # providers whose delays are counted
    counts: bool = False  # whether it matters what persons are sent and how they react
    shared: frozenset[str] = frozenset()  # channels whose providers stand in for one another
    send_windows: dict[str, SendWindow] = {}  # those that a campaign may name
    budgets: tuple[Budget, ...] = ()  # in the order of the configuration
    holds_steps: bool = False  # whether a send window or a declared campaign may hold a step
    holds_for_zone: bool = False  # whether a step may wait until its user has a zone
    declared: Declared = NONE_DECLARED  # what campaigns say now

    def __post_init__(self) -> None:
        resolved = {name: tuple(map(self._resolve, steps)) for name, steps in self.routes.items()}
        msgspec.structs.force_setattr(self, "resolved", resolved)
        every = [step for steps in self.routes.values() for step in steps]
        learning = frozenset(name for step in every if step.learned for name in step.providers)
        msgspec.structs.force_setattr(self, "learning", learning)
        asks_seen = any(step.until == "seen" for step in every)
        hidden = asks_seen and self.reach.hidden_seen == "delivered"
        msgspec.structs.force_setattr(self, "counts", bool(self.best) or hidden)
        apart = {rule.channel for rule in self.providers.values() if not rule.weight}
        several = {self.provider(s.providers[0]).channel for s in every if len(s.providers) > 1}
        msgspec.structs.force_setattr(self, "shared", frozenset(apart | several))

        windows = [rule.send_window for rule in self.categories.values() if rule.send_window]
        holds_steps = bool(windows or self.declared.campaigns)
        msgspec.structs.force_setattr(self, "holds_steps", holds_steps)
        windows += self.send_windows.values()
        holds = any(window.unknown_zone == "hold" for window in windows)
        msgspec.structs.force_setattr(self, "holds_for_zone", holds)

    def _resolve(self, step: RouteStep) -> ResolvedStep:
        channel = CHANNELS[self.providers[step.providers[0]].channel]
        sending = tuple(name for name in step.providers if not self.provider(name).retired)
        by_device = any(self.provider(name).devices for name in sending)
        return ResolvedStep(step, channel, sending, channel.can_show(step.until), by_device)

    @property
    def asks_reactions(self) -> bool:
        """Whether it matters that persons react."""
        return self.counts or self.declared.asks_silence

    def when_away(self, category: Category) -> WhenAway:
        rule = self.categories.get(category)
        return rule.when_away if rule is not None else "wait"

    def app(self, name: str) -> AppRule:
        return self.apps.get(name, _UNBOUND)

    def numbering_of(self, app: str) -> str:
        """Whose user ids an app's are; empty where all apps have the same."""
        return app if self.own_users else ""

    def present(self, provider: str) -> str:
        """The present name of a provider, by that or an earlier one."""
        return self.former.get(provider, provider)

    def provider(self, name: str) -> ProviderRule:
        """By its present or an earlier name; UNKNOWN_PROVIDER where there is none."""
        return self.providers.get(self.former.get(name, name), UNKNOWN_PROVIDER)

    def stands_in(self, provider: str, away: Container[str]) -> bool:
        """Whether another provider of its channel may take over what it does not send now."""
        channel = self.provider(provider).channel
        return channel in self.shared and any(
            rule.channel == channel and rule.shares and name != provider and name not in away
            for name, rule in self.providers.items()
        )

    def names_of(self, provider: str) -> tuple[str, ...]:
        """Its present name, then the earlier ones."""
        return names_of(provider, self.former)

    def take_present_names(self, message: Message) -> bool:
        """A message of a provider that was renamed since goes on under the present name; whether
        the provider of its current step was."""
        if not self.former:
            return False
        provider = message.step.provider
        for step in message.steps:
            step.candidates = [
                replace(candidate, provider=self.present(candidate.provider))
                for candidate in step.candidates
            ]
        return message.step.provider != provider
