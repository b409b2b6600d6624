"""`kaskad key`: API keys made, shown once and kept as hashes; listed; and revoked.

A key's form and record are in `gateway.store.installation.api_keys`. An unusable name, scope or
duration, and an id that names no key or several, are a UsageFault.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.cli.failures import DONE, UsageFault
from gateway.cli.person import who
from gateway.cli.reach import redis_for_command
from gateway.cli.tables import moment, print_json, print_list
from gateway.core.texts import is_plain_name
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.settings.file import load
from gateway.store import redis_clock
from gateway.store.installation import api_keys
from gateway.store.installation.api_keys import (
    REVOKED_WITHIN_S,
    SCOPES,
    ListedKey,
    Scope,
    digest_of,
    id_of,
)
from providers.notation import Duration

NAME_CHARS_MAX = 64


class KeyWish(msgspec.Struct, frozen=True):
    """The options of a new key as they were written; `scope` has its scopes between commas."""

    app: str
    scope: str
    name: str = ""
    expires: str | None = None


def new(
    config: Path | None, environment: Mapping[str, str], wish: KeyWish, *, as_json: bool
) -> int:
    """Makes a key."""
    app, scopes = wish.app, scopes_of(wish.scope)
    if is_plain_name(app) is None:
        raise UsageFault(
            f"--app {app!r} cannot be an app's name: use up to 64 letters, digits, dots, dashes "
            "and underscores."
        )
    if len(wish.name) > NAME_CHARS_MAX or not wish.name.isprintable():
        raise UsageFault(f"--name may have {NAME_CHARS_MAX} characters that can be printed.")
    lifetime_ms = 0 if wish.expires is None else lifetime_of(wish.expires)
    settings = load(config, environment, secrets_required=False)

    async def make(redis: RedisClient) -> tuple[str, int]:
        now_ms = await redis_clock.now_ms(redis)
        expires_ms = now_ms + lifetime_ms if lifetime_ms else 0
        key = await api_keys.create(
            redis, app, scopes, now_ms, name=wish.name, expires_ms=expires_ms, by=who()
        )
        return key, expires_ms

    with redis_for_command(settings, begins=True, changes=True) as url:
        key, expires_ms = run(url, make)
    if as_json:
        shape = {
            "key": key,
            "id": id_of(digest_of(key.encode())),
            "app": app,
            "scopes": scopes,
            "name": wish.name,
            "expires_at": moment(expires_ms),
        }
        print_json(shape)
        return DONE
    until = f" until {moment(expires_ms)}" if expires_ms else ""
    sys.stderr.write(
        f"The key of {app} for {', '.join(scopes)}{until}. It is shown this once; keep it safe.\n"
    )
    sys.stdout.write(f"{key}\n")
    if app not in {known.name for known in settings.apps}:
        sys.stderr.write(f"Note: {settings.path} has no app {app}; check its spelling.\n")
    return DONE


def list_all(config: Path | None, environment: Mapping[str, str], *, as_json: bool) -> int:
    """Prints the keys that Redis holds; those of the configuration are not among them."""
    settings = load(config, environment, secrets_required=False)
    with redis_for_command(settings) as url:
        found, now_ms = run(url, _listed)
    shapes = [_shape(each, now_ms) for each in found]
    columns = ("id", "prefix", "app", "name", "scopes", "expires_at", "last_used_at", "state")
    print_list("keys", columns, shapes, "There is no key of `kaskad key new`.", as_json=as_json)
    return DONE


def revoke(config: Path | None, environment: Mapping[str, str], id_: str, *, as_json: bool) -> int:
    """Ends the key with this id or prefix."""
    settings = load(config, environment, secrets_required=False)
    with redis_for_command(settings, changes=True) as url:
        found, now_ms = run(url, _listed)
        named = [each for each in found if id_ in (each.id, each.key.prefix)]
        if len(named) != 1:
            raise UsageFault(
                f"{'Several keys begin' if named else 'No key has an id or begins'} with {id_!r}: "
                "`kaskad key list` shows the id of each."
            )
        run(url, lambda redis: api_keys.revoke(redis, named[0], now_ms, who()))
    shape = _shape(named[0], now_ms) | {"state": "revoked"}
    if as_json:
        print_json(shape)
    else:
        ends = f"ends within {REVOKED_WITHIN_S} seconds"
        sys.stdout.write(f"The key {named[0].id} of {named[0].key.app} {ends}.\n")
    return DONE


async def _listed(redis: RedisClient) -> tuple[list[ListedKey], int]:
    """The keys that Redis holds, and the time by its clock."""
    return await api_keys.listed(redis), await redis_clock.now_ms(redis)


def scopes_of(text: str) -> tuple[Scope, ...]:
    """Reads "send,read". Raises UsageFault."""
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in wanted if part not in SCOPES]
    if unknown or not wanted:
        raise UsageFault(
            f"--scope {text!r} is none: name some of {', '.join(SCOPES)}, with commas between."
        )
    return tuple(scope for scope in SCOPES if scope in wanted)


def lifetime_of(text: str) -> int:
    """Reads "90d" as milliseconds. Raises UsageFault."""
    try:
        lifetime_ms = Duration.parse(text)
    except ValueError as fault:
        raise UsageFault(f"--expires: {fault}.") from None
    if not lifetime_ms:
        raise UsageFault("--expires: it would be over at once; leave it out for a key without end.")
    return lifetime_ms


def _shape(listed: ListedKey, now_ms: int) -> dict[str, object]:
    key = listed.key
    return {
        "id": listed.id,
        "prefix": key.prefix or None,
        "app": key.app,
        "name": key.name,
        "scopes": key.scopes,
        "created_at": moment(key.created),
        "expires_at": moment(key.expires),
        "last_used_at": moment(listed.used_ms),
        "state": "expired" if key.is_over(now_ms) else "good",
    }
