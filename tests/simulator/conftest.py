"""A simulator a module, and a webhook a test with the simulator as it began."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from providers.simulator import Settings, child
from tests.worlds import template
from tests.worlds.simulated import KNOBS
from tests.worlds.simulator_webhook import Webhook


@pytest.fixture(scope="module")
def running() -> Iterator[child.Child]:
    with template.simulation(Settings(knobs=KNOBS)) as started:
        yield started


@pytest.fixture
def webhook(running: child.Child) -> Iterator[Webhook]:
    running.reset()
    webhook = Webhook()
    yield webhook
    webhook.close()
