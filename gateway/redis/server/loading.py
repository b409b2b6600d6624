"""A Redis that loads its data set is waited for, with a line of progress now and then.

Minutes are usual: some 50 MB of append-only file a second. A server that cannot be asked is not
waited for: what comes next meets it, and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import redis
import structlog

from gateway.redis.address import Address, AddressError, parse_address
from gateway.redis.server.checks import connect, masters_now

POLL_S = 0.5
TELL_EVERY = 10  # polls

Tell = Callable[[str], None]

_log = structlog.get_logger("store")


def tell_loading(sentence: str) -> None:
    """Puts a line of progress into the log."""
    _log.info("redis_loading", progress=sentence)


def progress(info: Mapping[str, Any]) -> str | None:
    """How far a server has come, by its INFO; None when it has loaded. Pure."""
    if not int(info.get("loading", 0)):
        return None
    loaded, total = (
        int(info.get("loading_loaded_bytes", 0)),
        int(info.get("loading_total_bytes", 0)),
    )
    if not total:
        return "Redis loads its data."
    left = f", about {info['loading_eta_seconds']} s left" if "loading_eta_seconds" in info else ""
    percent = min(loaded * 100 // total, 100)
    return f"Redis loads its data: {percent}% of {total / 2**30:.1f} GiB{left}."


def wait_until_loaded(url: str, tell: Tell, sleep: Callable[[float], None] = time.sleep) -> None:
    """Returns once no server at `url` loads its data any more."""
    for address in _addresses(url):
        polls = 0
        while (sentence := _progress_at(address)) is not None:
            if polls % TELL_EVERY == 0:
                tell(sentence)
            polls += 1
            sleep(POLL_S)


def _addresses(url: str) -> list[Address]:
    try:
        address = parse_address(url)
        if not address.cluster:
            return [address]
        return [address.of_node(node) for node in dict.fromkeys(masters_now(address).values())]
    except (AddressError, redis.RedisError, OSError):
        return []


def _progress_at(address: Address) -> str | None:
    try:
        with connect(address) as client:
            info: dict[str, Any] = client.info("persistence")
    except (redis.RedisError, OSError):
        return None
    return progress(info)
