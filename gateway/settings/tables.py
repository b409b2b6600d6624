"""The tables of the configuration: every key, its default and its limits.

`config/kaskad.toml` explains each, `docs/configuration.md` lists each, and a test keeps the three
together. The keys of a provider are its kind's own: `providers.registry` has them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, get_args

import msgspec
from msgspec.structs import replace

from gateway.core.campaigns.send_windows import RECIPIENT, UnknownZone
from gateway.core.channels import BASELINE_DEFAULT, ChannelOrAny, Until
from gateway.core.money.budgets import Then
from gateway.core.money.money import AmountError, parse_amount
from gateway.core.policy import HiddenSeen, Metric, OrderBy, WhenAway
from gateway.core.records.words import ImportanceName, LinksWord
from gateway.core.timing import usual_grace_ms
from gateway.decoding import Tagged
from gateway.finance.reports.schedule import Every, ReportForm
from gateway.store.installation.api_keys import Scope
from providers.contract import Category, Channel
from providers.notation import (
    DURATION_MS_MAX,
    AtLeast,
    Duration,
    Memory,
    Milliseconds,
    Rate,
    Table,
    Text,
)
from providers.registry import KINDS
from providers.settings import ProviderSettings

OTP_TTL = "5m"  # a code is worth nothing later; other categories: the default of the key
MIB = 1024 * 1024

PositiveCount = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
# Of a grant, for each of the two lower lanes: with more they would leave otp less than their share.
FLOOR_PERCENT_MAX = 33
FloorPercent = Annotated[int, msgspec.Meta(ge=0, le=FLOOR_PERCENT_MAX)]
Wait = Annotated[Duration, AtLeast(100)]  # a step's: no provider answers sooner
LEARNED = "auto"
MONTH = "month"
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
WAIT_MIN = Duration.parse("30s")  # of a step whose wait is learned
ClockTime = Annotated[str, msgspec.Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]
TimeOfDay = Annotated[str, msgspec.Meta(pattern="^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = get_args(Day)
ProviderTable = Annotated[ProviderSettings, Tagged("kind", KINDS)]


class Server(Table, frozen=True, kw_only=True):
    host: Text = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8080
    admin_port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0  # 0: there is none
    trusted_proxies: tuple[Text, ...] = ()
    public_url: str = ""  # after loading never empty, and without a slash at its end
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    connections_max: PositiveCount = 10_000
    header_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=MIB)] = 32_768
    body_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=1_024 * MIB)] = 16 * MIB
    waiting_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=1_024 * 1_024 * MIB)] = 256 * MIB
    line_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=MIB)] = 65_536
    batch_items_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1_000
    request_timeout_ms: Milliseconds = Duration.parse("30s")
    idle_timeout_ms: Milliseconds = Duration.parse("75s")
    stop_within_ms: Milliseconds = Duration.parse("20s")
    sse_clients_max: PositiveCount = 1_000
    backlog_max: PositiveCount = 1_000_000
    backlog_age_max_ms: Milliseconds = Duration.parse("1h")


class Redis(Table, frozen=True, kw_only=True):
    url: str = ""  # empty: embedded
    data_dir: Path = Path(".kaskad/redis")  # after loading absolute
    fsync: Literal["always", "everysec"] = "always"
    memory_max: Memory = Memory.parse("50%")  # of the embedded one
    shards: Annotated[int, msgspec.Meta(ge=1, le=1_024)] = 1

    def __repr__(self) -> str:
        return f"Redis({self.data_dir}, shards={self.shards})"  # the URL may hold a password


class App(Table, frozen=True, kw_only=True):
    name: Text
    key_env: Text | None = None
    scopes: tuple[Scope, ...] = ("send", "read", "report")
    rate_per_s: Rate | None = None
    day_max: PositiveCount | None = None
    countries: tuple[Text, ...] | None = None  # None: all
    senders: tuple[Text, ...] | None = None  # None: any
    allow: tuple[Literal["premium", "satellite"], ...] = ()


class DurationOrWord(Duration):
    """A duration, or WORD, which is as long as any duration."""

    WORD: ClassVar[str]

    @classmethod
    def parse(cls, text: object) -> Self:
        """Raises ValueError."""
        if text != cls.WORD:
            return super().parse(text)
        longest = cls(DURATION_MS_MAX)
        longest.text = cls.WORD
        return longest


class StepWait(DurationOrWord):
    """A step's wait; as long as any duration for now where it is learned."""

    WORD = LEARNED


class ShareSettings(Table, frozen=True, kw_only=True):
    """A provider's share of its channel."""

    name: Text
    weight: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1


class ChannelSettings(Table, frozen=True, kw_only=True):
    providers: tuple[ShareSettings, ...] | None = None  # None: every provider of the channel, alike


class StepSettings(Table, frozen=True, kw_only=True):
    """`provider` or `channel`, which stands for its providers."""

    provider: str | None = None
    channel: str | None = None
    wait_ms: Annotated[StepWait, AtLeast(100)] = StepWait.parse("24h")
    wait_min_ms: Wait | None = None  # of a learned one, else WAIT_MIN
    wait_max_ms: Wait | None = None
    grace_ms: Duration | None = None
    until: Until = "delivered"
    react_ms: Wait | None = None
    importance: ImportanceName = "low"
    importance_max: ImportanceName = "high"

    @property
    def name(self) -> str:
        """What the file calls it by."""
        return self.provider or self.channel or ""

    @property
    def is_learned(self) -> bool:
        return self.wait_ms.text == LEARNED

    @property
    def shortest_ms(self) -> int:
        """Of a wait that is learned."""
        return WAIT_MIN if self.wait_min_ms is None else self.wait_min_ms

    @property
    def longest_ms(self) -> int:
        """The wait, or the longest that one that is learned can be."""
        return self.wait_max_ms if self.is_learned and self.wait_max_ms else self.wait_ms

    @property
    def last_receipt_ms(self) -> int:
        """The grace in force after the longest wait."""
        return usual_grace_ms(self.longest_ms) if self.grace_ms is None else self.grace_ms


class Route(Table, frozen=True, kw_only=True):
    order: Literal["written", "best"] = "written"
    order_by: OrderBy = "cost"
    steps: tuple[StepSettings, ...]


class CategorySettings(Table, frozen=True, kw_only=True):
    route: str
    ttl_ms: Annotated[Duration, AtLeast(1_000)] = Duration.parse("72h")  # for otp OTP_TTL
    resend_unknown: bool = False
    when_away: WhenAway | None = None  # None: WHEN_AWAY_DEFAULT
    send_window: Text | None = None


class SendWindowSettings(Table, frozen=True, kw_only=True):
    """`to` before `from` is over midnight."""

    from_: TimeOfDay = msgspec.field(name="from")
    to: TimeOfDay
    days: tuple[Day, ...] = DAYS
    zone: Text = RECIPIENT
    unknown_zone: UnknownZone = "intersect"
    default_zone: Text = "UTC"
    country_zones: dict[str, Text] = msgspec.field(default_factory=dict)


class CapSettings(Table, frozen=True, kw_only=True):
    """`category` None counts every category; `window_ms.text` is the window as configured."""

    name: Text
    limit: PositiveCount
    window_ms: Annotated[Duration, AtLeast(1_000)]
    category: Category | None = None
    channel: ChannelOrAny = "any"


class BudgetLimit(int):
    """In 1e-6 units of the price list's currency; `text` is how it was written."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Raises ValueError."""
        try:
            limit = parse_amount(text) if isinstance(text, str) else 0
        except AmountError:
            limit = 0
        if not limit:
            raise ValueError(
                f"{text!r} is no amount above zero: write text with at most six decimals, such as "
                '"500.00"'
            )
        return cls(limit)


class BudgetWindow(DurationOrWord):
    WORD = MONTH


class BudgetSettings(Table, frozen=True, kw_only=True):
    """A filter that is left out counts everything."""

    name: Text
    limit: BudgetLimit
    window_ms: Annotated[BudgetWindow, AtLeast(1_000)]
    then: Then = "hold"
    warn: tuple[Annotated[int, msgspec.Meta(ge=1, le=100)], ...] = (80, 100)
    app: Text | None = None
    campaign: Text | None = None
    category: Category | None = None
    country: Text | None = None
    channel: Text | None = None


class Dedupe(Table, frozen=True, kw_only=True):
    users: Literal["shared", "app"] = "shared"
    window_ms: Milliseconds = Duration.parse("30d")


class OptOutSettings(Table, frozen=True, kw_only=True):
    words: tuple[Text, ...] = ()  # none: the shipped ones


class ConsentSettings(Table, frozen=True, kw_only=True):
    require: tuple[Category, ...] = ()


class Reach(Table, frozen=True, kw_only=True):
    forget_ms: Milliseconds = Duration.parse("30d")
    hidden_seen: HiddenSeen = "delivered"
    metric: Metric = "clicked"
    prior: dict[str, Share] | None = None  # of each channel that is left out, its own


class Conversions(Table, frozen=True, kw_only=True):
    click_window_ms: Milliseconds = Duration.parse("7d")
    delivery_window_ms: Milliseconds = Duration.parse("24h")


class LinkSettings(Table, frozen=True, kw_only=True):
    default: LinksWord = "off"
    base_url: str = ""  # after loading never empty, and without a slash at its end
    ttl_ms: Annotated[Duration, AtLeast(60_000)] = Duration.parse("90d")
    hosts: tuple[Text, ...] = ()
    utm: dict[str, Text] = msgspec.field(default_factory=dict)


class Prices(Table, frozen=True, kw_only=True):
    file: Path = Path("prices.csv")  # after loading absolute
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")] = "EUR"
    baseline: Text = BASELINE_DEFAULT  # the channel that reports compare with


class RetentionSettings(Table, frozen=True, kw_only=True):
    messages_ms: Milliseconds = Duration.parse("30d")
    parked_receipts_ms: Milliseconds = Duration.parse("24h")
    raw_receipts_ms: Annotated[Duration, AtLeast(0)] = Duration.parse("0s")  # 0: not at all
    events_max: PositiveCount = 100_000
    # Read by nothing, as texts go sooner: see docs/configuration.md.
    texts_ms: Milliseconds = Duration.parse("24h")


class ScheduleSettings(Table, frozen=True, kw_only=True):
    """`folder` or `url`; a folder is absolute after loading."""

    name: Text
    every: Every
    at: ClockTime = "06:00"
    group_by: tuple[Text, ...] = ()
    filters: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    format: ReportForm = "csv"
    folder: str = ""
    url: str = ""
    secret_env: Text | None = None


class Reports(Table, frozen=True, kw_only=True):
    campaigns_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    zone: Text = "UTC"  # whose days and months count
    schedule: tuple[ScheduleSettings, ...] = ()


class ArchiveSettings(Table, frozen=True, kw_only=True):
    """`url` empty: there is none; a folder is absolute after loading."""

    url: str = ""
    every_ms: Annotated[Duration, AtLeast(1_000)] = Duration.parse("1h")
    keep_ms: Milliseconds = Duration.parse("48h")
    hash_key_env: Text = "KASKAD_ARCHIVE_KEY"


class WebhookSettings(Table, frozen=True, kw_only=True):
    allow_hosts: tuple[Text, ...] = ()


class Lanes(Table, frozen=True, kw_only=True):
    floor_percent: FloorPercent = 10
    claim_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500
    lease_ms: Milliseconds = Duration.parse("10s")
    heartbeat_ms: Milliseconds = Duration.parse("2s")
    stop_within_ms: Milliseconds = Duration.parse("20s")


class Log(Table, frozen=True, kw_only=True):
    messages: bool = False


class TraceSettings(Table, frozen=True, kw_only=True):
    endpoint: Annotated[str, msgspec.Meta(pattern="^(https?://.+)?$")] = ""
    sample: Share = 0.01


class Document(Table, frozen=True, kw_only=True):
    """What the file holds; every table that is left out has its defaults."""

    server: Server = Server()
    redis: Redis = Redis()
    apps: tuple[App, ...] = ()
    providers: dict[str, ProviderTable] = msgspec.field(default_factory=dict)
    channels: dict[str, ChannelSettings] = msgspec.field(default_factory=dict)
    routes: dict[str, Route] = msgspec.field(default_factory=dict)
    categories: dict[Category, CategorySettings] = msgspec.field(default_factory=dict)
    send_windows: dict[str, SendWindowSettings] = msgspec.field(default_factory=dict)
    caps: tuple[CapSettings, ...] = ()
    budgets: tuple[BudgetSettings, ...] = ()
    dedupe: Dedupe = Dedupe()
    optout: OptOutSettings = OptOutSettings()
    consent: ConsentSettings = ConsentSettings()
    reach: Reach = Reach()
    conversions: Conversions = Conversions()
    links: LinkSettings = LinkSettings()
    prices: Prices = Prices()
    retention: RetentionSettings = RetentionSettings()
    reports: Reports = Reports()
    archive: ArchiveSettings = ArchiveSettings()
    webhooks: WebhookSettings = WebhookSettings()
    lanes: Lanes = Lanes()
    log: Log = Log()
    traces: TraceSettings = TraceSettings()

    def channel(self, name: str) -> Channel:
        """The channel a provider serves, which its kind decides."""
        return KINDS[self.providers[name].kind].channel

    def weights(self, channel: str) -> dict[str, int]:
        """The providers that share a channel, each with its weight."""
        table = self.channels.get(channel, ChannelSettings())
        if table.providers is None:
            return {name: 1 for name in self.providers if self.channel(name) == channel}
        return {share.name: share.weight for share in table.providers}

    def channel_of(self, step: StepSettings) -> str:
        return step.channel or self.channel(step.name)

    def senders(self, step: StepSettings) -> tuple[str, ...]:
        """The providers that may do a step."""
        return tuple(self.weights(step.channel)) if step.channel else (step.name,)


def unrouted(category: Category) -> CategorySettings:
    """What holds for a category without a table: each of its messages names its route itself."""
    rule = CategorySettings(route="")
    return replace(rule, ttl_ms=Duration.parse(OTP_TTL)) if category == "otp" else rule
