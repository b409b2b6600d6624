"""How a provider writes its invoices: a TOML file, or one of those that are shipped, by its name.

Strict, as the configuration is: every fault is told with file, key and reason, as SettingsError.
"""

from __future__ import annotations

import io
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from gateway.core.campaigns.send_windows import zone_named
from gateway.decoding import Collector, KeyFault
from gateway.finance.invoices.invoices import InvoiceMap
from gateway.settings.decoder import TomlWords
from gateway.settings.file import SettingsError, SettingsFault

MAP_BYTES_MAX = 65_536


def load_map(name: str) -> InvoiceMap:
    """A file, or a shipped one by its name, such as `infobip`. Raises SettingsError."""
    shipped = shipped_maps()
    path = shipped.get(name, Path(name))
    try:
        with path.open("rb") as file:
            text = file.read(MAP_BYTES_MAX).decode("utf-8-sig")
        table = tomllib.loads(text)
    except OSError as error:
        names = ", ".join(sorted(shipped))
        raise _unusable(
            path, f"cannot be read: {error.strerror}. Shipped maps are: {names}."
        ) from None
    except UnicodeDecodeError:
        raise _unusable(path, "is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise _unusable(path, f"is not TOML: {error}.") from None
    collector = Collector(TomlWords())
    how = collector.read(InvoiceMap, table)
    faults = collector.faults or ([] if how is None else list(_faults(how)))
    if how is None or faults:
        raise SettingsError(SettingsFault(str(path), f.key, f.reason) for f in faults)
    return how


def shipped_maps() -> dict[str, Path]:
    """By name."""
    installed = Path(str(resources.files("gateway").joinpath("shipped", "invoices")))
    folder = installed
    if not installed.is_dir():
        folder = Path(__file__).resolve().parents[2] / "config" / "invoices"
    return {path.stem: path for path in folder.glob("*.toml")}


def _faults(how: InvoiceMap) -> Iterator[KeyFault]:
    try:
        # Not all that Python has are of text: it refuses those here.
        io.TextIOWrapper(io.BytesIO(), how.encoding)
    except LookupError:
        yield KeyFault("encoding", f"{how.encoding!r} is none that Python knows.")
    if len(how.delimiter) != 1:
        yield KeyFault("delimiter", "is one character.")
    if how.thousands and how.thousands == how.decimal:
        yield KeyFault("thousands", "is the same as decimal.")
    if zone_named(how.zone) is None:
        yield KeyFault("zone", f"{how.zone!r} is no IANA zone, such as Europe/Moscow.")


def _unusable(path: Path, reason: str) -> SettingsError:
    return SettingsError([SettingsFault(str(path), "", reason)])
