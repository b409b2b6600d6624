"""How a command comes to Redis: the configured one, the one of a running `kaskad up`, or its own.

A Redis that cannot be had is an EmbeddedRedisError, or a UsageFault where the role must not have
one of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from gateway.cli.failures import UsageFault
from gateway.redis.server import binary, machine
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.redis.server.loading import Tell, wait_until_loaded
from gateway.settings.file import Settings
from gateway.store.installation import installation


@contextmanager
def redis_for_command(
    settings: Settings, *, begins: bool = False, changes: bool = False
) -> Iterator[str]:
    """The URL of Redis while a short command runs; the embedded one is started when none serves.

    Where nothing was ever kept only a command that `begins` an installation makes its folder: of
    the others, one run in a wrong place would find nothing, and leave an empty store there. Where
    all was copied away one that `changes` something is refused, the others say so. Raises
    UsageFault, StoreUnfitError for data that this configuration would misread, RedisUnavailable.
    """
    with ExitStack() as stack:
        url = settings.redis.url or _url_of_running(settings)
        if not url:
            if not begins and not settings.redis.data_dir.is_dir():
                raise UsageFault(
                    f"There is nothing yet in {settings.redis.data_dir}, where {settings.path} "
                    "keeps Redis: run it where `kaskad up` runs, or name its file with --config."
                )
            url = stack.enter_context(embedded_redis(settings, _tell)).url
        wait_until_loaded(url, _tell)
        shards, currency = settings.redis.shards, settings.prices.currency
        found = installation.look(url, shards, currency, zone=settings.reports.zone)
        gone = [] if changes else [f for f in found if f.code == installation.COPIED_CODE]
        installation.insist([finding for finding in found if finding not in gone])
        for finding in gone:
            _tell(finding.sentence)
        yield url


def embedded_redis(settings: Settings, tell: Tell | None = None) -> EmbeddedRedis:
    """The configured one, not started."""
    redis = settings.redis
    memory = redis.memory_max.bytes_of(machine.memory_bytes())
    return EmbeddedRedis(redis.data_dir, redis.fsync, memory, tell)


def _tell(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


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
    socket = binary.socket_path(settings.redis.data_dir.absolute())
    return f"unix://{socket}" if binary.answers(socket) else ""
