"""A real Redis for every test that asks for one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest
import redis

from gateway.store.embedded import EmbeddedRedis


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """One embedded server a test process, so one a worker under xdist."""
    # Not pytest's own directory: its path can be too long for a socket.
    with (
        tempfile.TemporaryDirectory(prefix="kaskad-") as directory,
        EmbeddedRedis(directory, "everysec") as server,
    ):
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """The URL of an empty Redis."""
    with redis.Redis(unix_socket_path=str(redis_server.socket_path)) as client:
        client.flushall()
    return redis_server.url
