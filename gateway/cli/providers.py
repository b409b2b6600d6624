"""`kaskad provider`: an operator's pause of a provider, its end, and how all of them are.

A pause is written to Redis, where every dispatcher finds it within 2 seconds and after a restart. A
name that is no provider's is a UsageFault.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.cli.failures import DONE, UsageFault
from gateway.cli.person import who
from gateway.cli.reach import redis_for_command
from gateway.cli.tables import moment, print_table
from gateway.redis.asyncio_driver import run
from gateway.settings.file import Settings, load
from gateway.store import pauses
from gateway.store.pauses import Pause
from providers.registry import KINDS


def pause(
    config: Path | None, environment: Mapping[str, str], name: str, reason: str, *, as_json: bool
) -> int:
    """Lets nothing be sent to a provider until `resume`."""
    settings = load(config, environment, secrets_required=False)
    name, now_ms = _present(settings, name), time.time_ns() // 1_000_000
    with redis_for_command(settings) as url:
        changed = run(url, lambda redis: pauses.hold(redis, name, reason, who(), now_ms))
    sentence = f"{name} is paused: nothing is sent to it."
    return _tell(settings, name, changed.after, sentence, as_json=as_json)


def resume(
    config: Path | None, environment: Mapping[str, str], name: str, reason: str, *, as_json: bool
) -> int:
    """Ends a pause, an operator's or one that began by itself."""
    settings = load(config, environment, secrets_required=False)
    name, now_ms = _present(settings, name), time.time_ns() // 1_000_000
    with redis_for_command(settings) as url:
        changed = run(url, lambda redis: pauses.resume(redis, name, reason, who(), now_ms))
    said = "was not paused" if changed.before is None else "goes on"
    return _tell(settings, name, changed.after, f"{name} {said}.", as_json=as_json)


def list_all(config: Path | None, environment: Mapping[str, str], *, as_json: bool) -> int:
    """Prints every provider of the configuration, and its pause where it has one."""
    settings = load(config, environment, secrets_required=False)
    with redis_for_command(settings) as url:
        found = run(url, pauses.read)
    shapes = [_shape(settings, name, found.get(name)) for name in sorted(settings.providers)]
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode({"providers": shapes}) + b"\n")
    else:
        columns = ("name", "channel", "state", "kind", "since", "until", "by", "reason")
        print_table(columns, shapes, "The configuration has no provider.")
    return DONE


def _present(settings: Settings, name: str) -> str:
    """The provider of this present or earlier name. Raises UsageFault."""
    for present, provider in settings.providers.items():
        if name == present or name in provider.was:
            return present
    known = ", ".join(sorted(settings.providers))
    raise UsageFault(f"{settings.path} has no provider {name!r}: it has {known}.")


def _tell(
    settings: Settings, name: str, stands: Pause | None, sentence: str, *, as_json: bool
) -> int:
    if as_json:
        shape = _shape(settings, name, stands)
        sys.stdout.buffer.write(msgspec.json.encode(shape) + b"\n")
    else:
        sys.stdout.write(f"{sentence}\n")
    return DONE


def _shape(settings: Settings, name: str, pause: Pause | None) -> dict[str, object]:
    provider = settings.providers[name]
    shape: dict[str, object] = {
        "name": name,
        "channel": KINDS[provider.kind].channel,
        "state": "retired" if provider.retired else "up" if pause is None else "paused",
    }
    if pause is None:
        return shape | dict.fromkeys(("kind", "since", "until", "by", "code", "reason"))
    return shape | {
        "kind": pause.kind,
        "since": moment(pause.since),
        "until": moment(pause.ends_ms),
        "by": pause.by or None,
        "code": pause.code,
        "reason": pause.detail,
    }
