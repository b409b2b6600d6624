"""How a command comes to Redis: the configured one, the one of a running `kaskad up`, or its own.

Owns that choice. It must not know what the command does there. A Redis that cannot be had is an
EmbeddedRedisError, or a UsageFault where the role must not have one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.cli.failures import UsageFault
from gateway.settings import Settings
from gateway.store import redis_server
from gateway.store.embedded import EmbeddedRedis


@contextmanager
def redis_for_command(settings: Settings) -> Iterator[str]:
    """The URL of Redis while a short command runs; the embedded one is started when none serves."""
    url = settings.redis.url or _url_of_running(settings)
    if url:
        yield url
        return
    with EmbeddedRedis(settings.redis.data_dir, settings.redis.fsync) as server:
        yield server.url


def redis_for_role(settings: Settings, role: str) -> str:
    """The URL of Redis for a role of many machines, which must not start one for itself alone."""
    url = settings.redis.url or _url_of_running(settings)
    if not url:
        raise UsageFault(
            f"`kaskad {role}` shares its Redis with other processes, and redis.url in "
            f"{settings.path} is empty: set it (or KASKAD_REDIS_URL), or run `kaskad up` for all "
            "roles and Redis on this machine."
        )
    return url


def _url_of_running(settings: Settings) -> str:
    """The embedded Redis that another process keeps running on our data_dir, if any."""
    socket = redis_server.socket_path(settings.redis.data_dir.absolute())
    return f"unix://{socket}" if redis_server.answers(socket) else ""
