"""`kaskad key new`: an API key made, shown once, and kept as a hash.

The key's form and record are in `gateway.store.api_keys`. An unusable name or scope is a
UsageFault.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.cli.failures import DONE, UsageFault
from gateway.cli.reach import redis_for_command
from gateway.redis.asyncio_driver import run
from gateway.settings.file import load
from gateway.store import api_keys
from gateway.store.api_keys import SCOPES, Scope

_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch


def new(
    config: Path | None, environment: Mapping[str, str], app: str, scope: str, *, as_json: bool
) -> int:
    """Makes a key for `app`; `scope` has its scopes between commas."""
    scopes = scopes_of(scope)
    if _name(app) is None:
        raise UsageFault(
            f"--app {app!r} cannot be an app's name: use up to 64 letters, digits, dots, dashes "
            "and underscores."
        )
    settings = load(config, environment, secrets_required=False)
    now_ms = time.time_ns() // 1_000_000
    with redis_for_command(settings) as url:
        key = run(url, lambda redis: api_keys.create(redis, app, scopes, now_ms))
    if as_json:
        shape = {"key": key, "app": app, "scopes": scopes}
        sys.stdout.buffer.write(msgspec.json.encode(shape) + b"\n")
        return DONE
    sys.stderr.write(
        f"The key of {app} for {', '.join(scopes)}. It is shown this once; keep it safe.\n"
    )
    sys.stdout.write(f"{key}\n")
    if app not in {known.name for known in settings.apps}:
        sys.stderr.write(f"Note: {settings.path} has no app {app}; check its spelling.\n")
    return DONE


def scopes_of(text: str) -> tuple[Scope, ...]:
    """Reads "send,read". Raises UsageFault."""
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in wanted if part not in SCOPES]
    if unknown or not wanted:
        raise UsageFault(
            f"--scope {text!r} is none: name some of {', '.join(SCOPES)}, with commas between."
        )
    return tuple(scope for scope in SCOPES if scope in wanted)
