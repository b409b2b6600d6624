"""Tests here need packages of requirements/peers.txt or a node, so that they are read only by
`pytest -m peers`, which is `make test-peers`."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if config.option.markexpr == "peers" else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.peers)
