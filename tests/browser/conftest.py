"""A browser, and a report page with something to see."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.redis.server.embedded import EmbeddedRedis
from tests.worlds.chromium import Chromium
from tests.worlds.report_site import Site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        tempfile.TemporaryDirectory(prefix="kaskad-") as directory,
        EmbeddedRedis(directory, "everysec") as redis,
        Site(redis.url) as served,
    ):
        yield served


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """One browser for all tests: starting it is most of their time."""
    with (
        tempfile.TemporaryDirectory(prefix="kaskad-", ignore_cleanup_errors=True) as profile,
        Chromium(Path(profile)) as started,
    ):
        yield started


@pytest.fixture
def browser(chromium: Chromium) -> Chromium:
    chromium.look()
    chromium.forget()
    return chromium
