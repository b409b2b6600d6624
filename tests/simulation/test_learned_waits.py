"""The page about learned waits is what its command writes."""

from __future__ import annotations

from tests.simulation.learned_waits import MESSAGES_A_DAY, PAGE, page


def test_the_page_is_what_the_command_writes() -> None:
    assert PAGE.read_text() == page(MESSAGES_A_DAY)
