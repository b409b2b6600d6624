"""The configuration: one TOML file and the environment become one frozen tree.

The values of secrets are read from the environment here and nowhere else. A configuration that
cannot be used raises `SettingsError` with every fault found, each with file, key and reason.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from gateway.decoding import Collector
from gateway.errors import ConfigurationError
from gateway.settings import checks, presets, secret_checks
from gateway.settings.decoder import TomlWords
from gateway.settings.tables import OTP_TTL, Document
from providers.settings import Configured

CONFIG_BYTES_MAX = 1024 * 1024
DIGEST_CHARS = 12

_last_index = re.compile(r"\[\d+\]$")


class Secrets:
    """The values of the environment variables that the file names; never shown."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def get(self, variable: str | None) -> str:
        """The value, or an empty text where no variable is named or it is not set."""
        return self._values.get(variable, "") if variable is not None else ""

    def with_(self, others: Secrets) -> Secrets:
        """These and the others, which come first where both have a value."""
        return Secrets(self._values | others._values)

    def __repr__(self) -> str:
        return f"Secrets({', '.join(sorted(self._values))})"


class Settings(Document, frozen=True, kw_only=True):
    """The file, checked and with its addresses made absolute, and the secrets it names."""

    path: Path
    secrets: Secrets
    digest: str  # of the file's text: equal where two processes read the same
    warnings: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()  # what presets stand for, each with its key

    def provider(self, name: str) -> Configured:
        """A provider with its secrets. Raises KeyError when there is none of that name."""
        return Configured(
            name=name,
            settings=self.providers[name],
            secret=self.secrets.get,
            callback_url=self.callback_url(name),
        )

    def callback_url(self, name: str) -> str:
        """Where a provider of that name calls back."""
        return f"{self.server.public_url}/v1/callbacks/{quote(name, safe='')}"

    @property
    def former(self) -> dict[str, str]:
        """Earlier names of providers, each with the present one."""
        return {old: name for name, each in self.providers.items() for old in each.was}

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

    Relative paths in the file are relative to it, and the files that providers name are read. Only
    the shipped default keeps its data below the working directory, because it lies among the
    program's own files.
    `secrets_required=False` is for commands that reach no provider: a secret that is not set is
    then a warning. Raises SettingsError.
    """
    installed = resources.files("gateway").joinpath("shipped", "kaskad.toml")
    data_base: Path | None = None
    if path is None and env.get("KASKAD_CONFIG"):
        path = Path(env["KASKAD_CONFIG"])
    elif path is None:
        in_tree = Path(__file__).resolve().parents[2] / "config" / "kaskad.toml"
        path, data_base = Path(str(installed)) if installed.is_file() else in_tree, Path.cwd()
    try:
        with path.open("rb") as file:
            text = file.read(CONFIG_BYTES_MAX + 1).decode("utf-8-sig")
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise _unusable(path, "is not UTF-8 text.") from None
    settings = parse(
        text, path.absolute(), env, secrets_required=secrets_required, data_base=data_base
    )
    unusable = [
        SettingsFault(str(settings.path), f"providers.{name}.{key}", reason)
        for name, provider in settings.providers.items()
        for key, reason in provider.file_faults()
    ]
    if unusable and secrets_required:
        raise SettingsError(unusable)
    return replace(
        settings, warnings=settings.warnings + tuple(f"{f.key} {f.reason}" for f in unusable)
    )


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
    except ValueError:  # of the number itself: more digits than Python reads
        raise _unusable(path, "holds a number of more digits than can be read.") from None
    except RecursionError:
        raise _unusable(path, "nests deeper than any configuration does.") from None
    collector = Collector(TomlWords())
    document = collector.read(Document, presets.expanded(_with_shorter_otp(table)))
    assert document is not None, "every table of a document has a default"
    values, warnings = secret_checks.without_line_ends(document, env)
    unusable = list(secret_checks.faults(document, values))
    unread = {_list_of(fault.key) for fault in collector.faults}
    meant = (f for f in checks.faults(document, table) if f.key not in unread)
    faults = [*collector.faults, *presets.faults(table), *meant]
    if secrets_required:
        faults += unusable
    if faults:
        raise SettingsError(SettingsFault(str(path), f.key, f.reason) for f in faults)
    warnings += [*secret_checks.warnings(document, values), *checks.warnings(document)]
    if not secrets_required:
        warnings += [f"{fault.key} {fault.reason}" for fault in unusable]
    url = env.get("KASKAD_REDIS_URL") or document.redis.url
    return Settings(
        **_finished(document, path, data_base or path.parent, url),
        path=path,
        secrets=Secrets(values),
        digest=hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:DIGEST_CHARS],
        warnings=tuple(warnings),
        notes=tuple(presets.notes(table)),
    )


def _list_of(key: str) -> str:
    """The list of which an item could not be read: the others say nothing of what was written."""
    return _last_index.sub("", key)


def _with_shorter_otp(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table with `categories.otp.ttl` set where it is not."""
    categories = table.get("categories")
    otp = categories.get("otp") if isinstance(categories, Mapping) else None
    if not isinstance(categories, Mapping) or not isinstance(otp, Mapping):
        return table
    return {**table, "categories": {**categories, "otp": {"ttl": OTP_TTL, **otp}}}


def _finished(document: Document, path: Path, data_base: Path, redis_url: str) -> dict[str, Any]:
    """The tables, with addresses and paths that do not depend on anything else."""
    server, redis, prices, archive = (
        document.server,
        document.redis,
        document.prices,
        document.archive,
    )
    anywhere = server.host in ("0.0.0.0", "::", "")
    host = "127.0.0.1" if anywhere else f"[{server.host}]" if ":" in server.host else server.host
    public_url = server.public_url.rstrip("/") or f"http://{host}:{server.port}"
    tables = {name: getattr(document, name) for name in Document.__struct_fields__}
    tables["server"] = replace(server, public_url=public_url)
    base_url = document.links.base_url.rstrip("/") or f"{public_url}/l"
    tables["links"] = replace(document.links, base_url=base_url)
    tables["redis"] = replace(redis, url=redis_url, data_dir=data_base / redis.data_dir)
    tables["prices"] = replace(prices, file=path.parent / prices.file)
    if archive.url and "://" not in archive.url:
        tables["archive"] = replace(archive, url=str(data_base / archive.url))
    schedule = tuple(
        replace(each, folder=str(data_base / each.folder)) if each.folder else each
        for each in document.reports.schedule
    )
    tables["reports"] = replace(document.reports, schedule=schedule)
    tables["providers"] = {n: each.below(path.parent) for n, each in document.providers.items()}
    return tables


def _unusable(path: Path, reason: str) -> SettingsError:
    return SettingsError([SettingsFault(str(path), "", reason)])
