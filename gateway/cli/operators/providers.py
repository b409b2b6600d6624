"""`kaskad provider`: an operator's pause of a provider, its end, and how all of them are.

A pause is written to Redis, where every dispatcher finds it within 2 seconds and after a restart. A
name that is no provider's is a UsageFault.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from gateway.cli.failures import DONE, UsageFault, require_text
from gateway.cli.person import who
from gateway.cli.reach import redis_for_command
from gateway.cli.tables import moment, print_json, print_list
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.settings.file import Settings, load
from gateway.store import redis_clock
from gateway.store.providers import pauses
from gateway.store.providers.pauses import Changed, Pause
from providers.registry import KINDS

ChangePause = Callable[[RedisClient, str, str, str, int, Mapping[str, str]], Awaitable[Changed]]


def pause(
    config: Path | None, environment: Mapping[str, str], name: str, reason: str, *, as_json: bool
) -> int:
    """Lets nothing be sent to a provider until `resume`."""
    settings, name = _found(config, environment, name)
    changed = _change(settings, name, reason, pauses.hold)
    sentence = f"{name} is paused: nothing is sent to it."
    return _tell(settings, name, changed.after, sentence, as_json=as_json)


def resume(
    config: Path | None, environment: Mapping[str, str], name: str, reason: str, *, as_json: bool
) -> int:
    """Ends a pause, an operator's or one that began by itself."""
    settings, name = _found(config, environment, name)
    changed = _change(settings, name, reason, pauses.resume)
    said = "was not paused" if changed.before is None else "goes on"
    return _tell(settings, name, changed.after, f"{name} {said}.", as_json=as_json)


def list_all(config: Path | None, environment: Mapping[str, str], *, as_json: bool) -> int:
    """Prints every provider of the configuration, and its pause where it has one."""
    settings = load(config, environment, secrets_required=False)
    with redis_for_command(settings) as url:
        found = run(url, lambda redis: pauses.read(redis, settings.former))
    shapes = [_shape(settings, name, found.get(name)) for name in sorted(settings.providers)]
    columns = ("name", "channel", "state", "kind", "since", "until", "by", "reason")
    nothing = "The configuration has no provider."
    print_list("providers", columns, shapes, nothing, as_json=as_json)
    return DONE


def _found(config: Path | None, environment: Mapping[str, str], name: str) -> tuple[Settings, str]:
    """The settings, and the provider of this present or earlier name. Raises UsageFault."""
    settings = load(config, environment, secrets_required=False)
    for present, provider in settings.providers.items():
        if name == present or name in provider.was:
            return settings, present
    known = ", ".join(sorted(settings.providers))
    raise UsageFault(f"{settings.path} has no provider {name!r}: it has {known}.")


def _change(settings: Settings, name: str, reason: str, how: ChangePause) -> Changed:
    require_text("--reason", reason)

    async def change(redis: RedisClient) -> Changed:
        now_ms = await redis_clock.now_ms(redis)
        return await how(redis, name, reason, who(), now_ms, settings.former)

    with redis_for_command(settings, changes=True) as url:
        return run(url, change)


def _tell(
    settings: Settings, name: str, stands: Pause | None, sentence: str, *, as_json: bool
) -> int:
    if as_json:
        shape = _shape(settings, name, stands)
        print_json(shape)
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
