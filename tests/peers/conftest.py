"""Tests here need packages of requirements/peers.txt or a node, so that they are read only by
`pytest -m peers`, which is `make test-peers`."""

from __future__ import annotations

import pytest


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if config.option.markexpr == "peers" else True
