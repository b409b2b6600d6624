"""What a preset stands for: caps and send windows that need not be written out. Pure.

A preset is replaced by what it stands for before the file is read, so that nothing else knows of
presets. One that is not known, or that does not stand alone where it must, is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.core.channels import CHANNELS
from gateway.decoding import KeyFault
from gateway.settings.tables import DAYS

# Where the hours come from: docs/configuration.md. None is legal advice.
WINDOWS: Mapping[str, Mapping[str, Any]] = {
    "us-federal": {"from": "08:00", "to": "21:00"},
    "us-strictest": {
        "from": "09:00",
        "to": "18:00",
        "days": ["mon", "tue", "wed", "thu", "fri"],
    },
    "ru-9-21": {"from": "09:00", "to": "21:00"},
}
CAPS: Mapping[str, list[dict[str, Any]]] = {
    "retail": [
        {
            "name": f"retail-{row.name}",
            "category": "marketing",
            "channel": row.name,
            "limit": row.retail[0],
            "window": row.retail[1],
        }
        for row in CHANNELS.values()
        if row.retail is not None
    ]
}


def expanded(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The file with every preset replaced by what it stands for."""
    caps, windows = table.get("caps"), table.get("send_windows")
    changed: dict[str, Any] = {}
    if isinstance(caps, list):
        # The first cap takes the preset's place, so that the others keep theirs in the file.
        more = [cap for each in caps for cap in _caps_of(each)[1:]]
        changed["caps"] = [(_caps_of(each) or [each])[0] for each in caps] + more
    if isinstance(windows, Mapping):
        changed["send_windows"] = {name: _window(each) for name, each in windows.items()}
    return {**table, **changed}


def faults(table: Mapping[str, Any]) -> Iterator[KeyFault]:
    """Presets that stand for nothing; `table` is the file as it was read."""
    caps, windows = table.get("caps"), table.get("send_windows")
    for i, cap in enumerate(caps if isinstance(caps, list) else ()):
        if isinstance(cap, Mapping) and "preset" in cap:
            if len(cap) > 1:
                yield KeyFault(f"caps[{i}].preset", "stands alone: give other keys to a cap.")
            yield from _unknown(f"caps[{i}].preset", cap["preset"], CAPS)
    for name, window in windows.items() if isinstance(windows, Mapping) else ():
        if isinstance(window, Mapping) and "preset" in window:
            yield from _unknown(f"send_windows.{name}.preset", window["preset"], WINDOWS)


def notes(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the presets of a sound file stand for, each with its key."""
    for i, cap in enumerate(table.get("caps", ())):
        if stands_for := _caps_of(cap):
            caps = ", ".join(f"{c['name']} {c['limit']} in {c['window']}" for c in stands_for)
            yield f"caps[{i}].preset", f"stands for marketing {caps}."
    for name, window in table.get("send_windows", {}).items():
        if "preset" in window:
            days = " ".join(_window(window).get("days", DAYS))
            hours = "{from} to {to}".format_map(_window(window))
            yield f"send_windows.{name}.preset", f"stands for {hours} on {days}."


def _caps_of(cap: Any) -> list[dict[str, Any]]:
    """What a cap with a preset stands for; of one without, nothing."""
    if not isinstance(cap, Mapping) or "preset" not in cap:
        return []
    # An unknown one stands for any: it is at fault already.
    return CAPS.get(str(cap["preset"]), CAPS["retail"])


def _window(window: Any) -> Any:
    if not isinstance(window, Mapping) or "preset" not in window:
        return window
    own = {key: value for key, value in window.items() if key != "preset"}
    return {**WINDOWS.get(str(window["preset"]), WINDOWS["ru-9-21"]), **own}


def _unknown(key: str, preset: Any, known: Mapping[str, Any]) -> Iterator[KeyFault]:
    if not isinstance(preset, str) or preset not in known:
        yield KeyFault(key, f"is {preset!r}: there is {', '.join(known)}.")
