"""The configuration: one TOML file and the environment become one frozen tree.

Owns the keys, their defaults and their limits; `config/kaskad.toml` shows each,
`docs/configuration.md` lists each, and a test keeps the three together. Secrets are read from the
environment here and nowhere else. It must not know what the settings are used for. A configuration
that cannot be used raises `SettingsError` with every fault found, each with file, key and reason.

In the file a duration is `wait = "15m"`; in the tree it is `wait_ms`, an integer that knows its
text. Likewise `rate = "500/s"` is `rate_per_s`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from gateway.errors import ConfigurationError
from gateway.settings import checks as settings_checks
from gateway.settings import decoder as strict
from gateway.settings.decoder import AtLeast
from gateway.settings.units import Duration, Rate
from providers.contract import Category, Channel, ProviderConfig
from providers.http.callback_proofs import (
    BasicAuth,
    CallbackAuth,
    HmacAlgorithm,
    HmacAuth,
    HmacEncoding,
)
from providers.registry import make_adapter

CONFIG_BYTES_MAX = 1024 * 1024
GRACE_MAX_MS = 10_000
OTP_TTL = "5m"  # a code is worth nothing later; other categories: the default of the key
MIB = 1024 * 1024

Scope = Literal["send", "read", "report"]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
# Of a grant, for each of the two lower lanes: with more they would leave otp less than their share.
FLOOR_PERCENT_MAX = 33
FloorPercent = Annotated[int, msgspec.Meta(ge=0, le=FLOOR_PERCENT_MAX)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
Milliseconds = Annotated[Duration, AtLeast(1)]
Wait = Annotated[Duration, AtLeast(100)]  # a step's: no provider answers sooner


def _ms(text: str) -> Duration:
    return Duration.parse(text)


def _key(field: str) -> str:
    """`wait_ms` is `wait` in the file: there the unit is in the value."""
    return field.removesuffix("_ms").removesuffix("_per_s")


class Table(msgspec.Struct, frozen=True, kw_only=True, rename=_key):
    """A table of the file."""


class Server(Table, frozen=True, kw_only=True):
    host: Text = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8080
    public_url: str = ""  # after loading never empty, and without a slash at its end
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    connections_max: Count = 10_000
    header_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=MIB)] = 32_768
    body_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=1_024 * MIB)] = 16 * MIB
    line_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=MIB)] = 65_536
    batch_items_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1_000
    request_timeout_ms: Milliseconds = _ms("30s")
    idle_timeout_ms: Milliseconds = _ms("75s")
    stop_within_ms: Milliseconds = _ms("20s")
    sse_clients_max: Count = 1_000
    backlog_max: Count = 1_000_000
    backlog_age_max_ms: Milliseconds = _ms("1h")


class Redis(Table, frozen=True, kw_only=True):
    url: str = ""  # empty: embedded
    data_dir: Path = Path(".kaskad/redis")  # after loading absolute
    fsync: Literal["always", "everysec"] = "always"
    shards: Annotated[int, msgspec.Meta(ge=1, le=1_024)] = 1

    def __repr__(self) -> str:
        return f"Redis({self.data_dir}, shards={self.shards})"  # the URL may hold a password


class App(Table, frozen=True, kw_only=True):
    name: Text
    key_env: Text | None = None
    scopes: tuple[Scope, ...] = ("send", "read", "report")


class Provider(Table, frozen=True, kw_only=True):
    kind: Text
    base_url: Text
    api_key_env: Text
    sender: Text
    rate_per_s: Rate = Rate.parse("100/s")
    batch: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 100
    timeout_ms: Milliseconds = _ms("10s")
    connections: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 64
    callback_token_env: Text | None = None
    callback_basic_user: Text | None = None
    callback_basic_password_env: Text | None = None
    callback_hmac_secret_env: Text | None = None
    callback_hmac_header: Text | None = None
    callback_hmac_algorithm: HmacAlgorithm = "sha256"
    callback_hmac_encoding: HmacEncoding = "hex"
    charged_on: Literal["delivered", "sent"] = "delivered"
    attempts_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    retry_delay_ms: Milliseconds = _ms("1s")


class Step(Table, frozen=True, kw_only=True):
    provider: str
    wait_ms: Wait = _ms("24h")
    grace_ms: Duration | None = None

    @property
    def last_receipt_ms(self) -> int:
        """The grace in force: as configured, or a tenth of the wait and at most GRACE_MAX_MS."""
        return min(self.wait_ms // 10, GRACE_MAX_MS) if self.grace_ms is None else self.grace_ms


class Route(Table, frozen=True, kw_only=True):
    steps: tuple[Step, ...]


class CategorySettings(Table, frozen=True, kw_only=True):
    route: str
    ttl_ms: Annotated[Duration, AtLeast(1_000)] = _ms("72h")  # for otp OTP_TTL
    resend_unknown: bool = False


class Cap(Table, frozen=True, kw_only=True):
    """`category` None counts every category; `window_ms.text` is the window as configured."""

    name: Text
    limit: Count
    window_ms: Annotated[Duration, AtLeast(1_000)]
    category: Category | None = None
    channel: Literal["any", "viber", "sms"] = "any"


class Dedupe(Table, frozen=True, kw_only=True):
    window_ms: Milliseconds = _ms("30d")


class Prices(Table, frozen=True, kw_only=True):
    file: Path = Path("prices.csv")  # after loading absolute
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")] = "EUR"


class Retention(Table, frozen=True, kw_only=True):
    messages_ms: Milliseconds = _ms("30d")
    parked_receipts_ms: Milliseconds = _ms("24h")
    events_max: Count = 100_000


class Lanes(Table, frozen=True, kw_only=True):
    floor_percent: FloorPercent = 10
    claim_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500
    lease_ms: Milliseconds = _ms("10s")
    heartbeat_ms: Milliseconds = _ms("2s")
    stop_within_ms: Milliseconds = _ms("20s")


class Document(Table, frozen=True, kw_only=True):
    """What the file holds; every table that is left out has its defaults."""

    server: Server = Server()
    redis: Redis = Redis()
    apps: tuple[App, ...] = ()
    providers: dict[str, Provider] = {}
    routes: dict[str, Route] = {}
    categories: dict[Category, CategorySettings] = {}
    caps: tuple[Cap, ...] = ()
    dedupe: Dedupe = Dedupe()
    prices: Prices = Prices()
    retention: Retention = Retention()
    lanes: Lanes = Lanes()


class Secrets:
    """The values of the environment variables that the file names; never shown."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def get(self, variable: str | None) -> str:
        """The value, or an empty text where no variable is named or it is not set."""
        return self._values.get(variable, "") if variable is not None else ""

    def __repr__(self) -> str:
        return f"Secrets({', '.join(sorted(self._values))})"


class Settings(Document, frozen=True, kw_only=True):
    """The file, checked and with its addresses made absolute, and the secrets it names."""

    path: Path
    secrets: Secrets
    warnings: tuple[str, ...] = ()

    def provider_config(self, name: str) -> ProviderConfig:
        """What a provider's adapter and HTTP edge are told. Raises KeyError when there is none."""
        provider = self.providers[name]
        return ProviderConfig(
            name=name,
            kind=provider.kind,
            base_url=provider.base_url.rstrip("/"),
            api_key=self.secrets.get(provider.api_key_env),
            sender=provider.sender,
            rate_per_s=int(provider.rate_per_s),
            batch=provider.batch,
            timeout_ms=int(provider.timeout_ms),
            callback_url=self.callback_url(name),
            connections=provider.connections,
        )

    def callback_url(self, name: str) -> str:
        """Where a provider posts its receipts; with a token in it, it is a secret."""
        url = f"{self.server.public_url}/v1/callbacks/{quote(name, safe='')}"
        token = self.secrets.get(self.providers[name].callback_token_env)
        return f"{url}?token={quote(token, safe='')}" if token else url

    def callback_auth(self, name: str) -> CallbackAuth:
        """What a provider's callbacks must carry: any one of the proofs that are configured."""
        provider, secret = self.providers[name], self.secrets.get
        password = secret(provider.callback_basic_password_env)
        hmac_secret = secret(provider.callback_hmac_secret_env)
        return CallbackAuth(
            basic=BasicAuth(provider.callback_basic_user or "", password) if password else None,
            token=secret(provider.callback_token_env) or None,
            hmac=HmacAuth(
                hmac_secret,
                provider.callback_hmac_header or "",
                provider.callback_hmac_algorithm,
                provider.callback_hmac_encoding,
            )
            if hmac_secret
            else None,
        )

    def channel(self, name: str) -> Channel:
        """The channel a provider serves, which its adapter decides."""
        return make_adapter(self.provider_config(name)).channel

    def app_keys(self) -> dict[str, str]:
        """App name: the key its `key_env` holds. Other apps have keys of `kaskad key new` only."""
        keys = ((app.name, self.secrets.get(app.key_env)) for app in self.apps)
        return {name: key for name, key in keys if key}


class SettingsFault(msgspec.Struct, frozen=True):
    """One thing to repair; `key` is empty when it is the file as a whole."""

    file: str
    key: str
    reason: str


class SettingsError(ConfigurationError):
    """The configuration cannot be used; `faults` are all that were found, each a line of text."""

    def __init__(self, faults: Iterable[SettingsFault]) -> None:
        self.faults = tuple(faults)
        super().__init__(
            "\n".join(f"{f.file}: {f'{f.key} ' if f.key else ''}{f.reason}" for f in self.faults)
        )


def load(path: Path | None, env: Mapping[str, str], *, secrets_required: bool = True) -> Settings:
    """Reads `path`, else the file KASKAD_CONFIG names, else the shipped default.

    Relative paths in the file are relative to it. Only the default of an installed Kaskad keeps its
    data below the working directory, because it lies among the program's own files.
    `secrets_required=False` is for commands that reach no provider: a secret that is not set is
    then a warning. Raises SettingsError.
    """
    installed = resources.files("gateway").joinpath("shipped", "kaskad.toml")
    data_base: Path | None = None
    if path is None and env.get("KASKAD_CONFIG"):
        path = Path(env["KASKAD_CONFIG"])
    elif path is None and installed.is_file():
        path, data_base = Path(str(installed)), Path.cwd()
    elif path is None:
        path = Path(__file__).resolve().parents[2] / "config" / "kaskad.toml"
    try:
        octets = path.read_bytes()
        text = octets[: CONFIG_BYTES_MAX + 1].decode()
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise _unusable(path, "is not UTF-8 text.") from None
    return parse(text, path.absolute(), env, secrets_required=secrets_required, data_base=data_base)


def parse(
    text: str,
    path: Path,
    env: Mapping[str, str],
    *,
    secrets_required: bool = True,
    data_base: Path | None = None,
) -> Settings:
    """Reads the text of the file `path` (absolute), touching no file. Raises SettingsError."""
    if len(text) > CONFIG_BYTES_MAX:
        raise _unusable(path, f"is larger than {CONFIG_BYTES_MAX} bytes.")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _unusable(path, f"is not TOML: {error}.") from None
    except RecursionError:
        raise _unusable(path, "nests deeper than any configuration does.") from None
    faults: list[strict.Fault] = []
    document = strict.decode(Document, _with_shorter_otp(table), faults)
    assert document is not None, "every table of a document has a default"
    missing = settings_checks.missing_secrets(document, env)
    faults += settings_checks.faults(document, table)
    if secrets_required:
        faults += missing
    if faults:
        raise SettingsError(SettingsFault(str(path), f.key, f.reason) for f in faults)
    warnings = settings_checks.warnings(document, env)
    if not secrets_required:
        warnings += [f"{fault.key} {fault.reason}" for fault in missing]
    return _finished(document, path, data_base or path.parent, env, tuple(warnings))


def unrouted(category: Category) -> CategorySettings:
    """What holds for a category without a table: each of its messages names its route itself."""
    rule = CategorySettings(route="")
    return replace(rule, ttl_ms=_ms(OTP_TTL)) if category == "otp" else rule


def _with_shorter_otp(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table with `categories.otp.ttl` set where it is not."""
    categories = table.get("categories")
    otp = categories.get("otp") if isinstance(categories, Mapping) else None
    if not isinstance(categories, Mapping) or not isinstance(otp, Mapping):
        return table
    return {**table, "categories": {**categories, "otp": {"ttl": OTP_TTL, **otp}}}


def _finished(
    document: Document,
    path: Path,
    data_base: Path,
    env: Mapping[str, str],
    warnings: tuple[str, ...],
) -> Settings:
    server, redis, prices = document.server, document.redis, document.prices
    anywhere = server.host in ("0.0.0.0", "::", "")
    host = "127.0.0.1" if anywhere else f"[{server.host}]" if ":" in server.host else server.host
    public_url = server.public_url.rstrip("/") or f"http://{host}:{server.port}"
    tables = {name: getattr(document, name) for name in Document.__struct_fields__}
    tables["server"] = replace(server, public_url=public_url)
    tables["redis"] = replace(
        redis,
        url=env.get("KASKAD_REDIS_URL") or redis.url,
        data_dir=data_base / redis.data_dir,
    )
    tables["prices"] = replace(prices, file=path.parent / prices.file)
    named = settings_checks.variables(document)
    secrets = Secrets({name: env[name] for name in named if env.get(name)})
    return Settings(**tables, path=path, secrets=secrets, warnings=warnings)


def _unusable(path: Path, reason: str) -> SettingsError:
    return SettingsError([SettingsFault(str(path), "", reason)])
