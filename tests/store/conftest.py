"""The two loops the link runs on, and a directory with room for a socket."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from loops import AsyncioLoop, Loop, TrioLoop


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Where a test's own Redis may be: the path leaves room for the name of a socket."""
    with tempfile.TemporaryDirectory(prefix="kaskad-") as directory:
        yield Path(directory)


@pytest.fixture(params=[AsyncioLoop, TrioLoop], ids=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> Loop:
    made: Loop = request.param()
    return made
