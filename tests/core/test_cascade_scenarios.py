"""The cascade by example: the tables of `scenarios/`, one story each, played row by row."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worlds.scenarios import Scenario, play, read_scenarios

FOLDER = Path(__file__).parent / "scenarios"
SCENARIOS = [
    pytest.param(scenario, id=f"{path.stem}: {scenario.name}")
    for path in sorted(FOLDER.glob("*.txt"))
    for scenario in read_scenarios(path)
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_cascade_goes_as_the_table_says(scenario: Scenario) -> None:
    play(scenario)


def test_a_table_that_says_something_wrong_is_noticed(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.txt"
    for row in ("claimed 0 | sent planned |", "claimed 0 | sending planned | billed 1"):
        wrong.write_text(f"[a wrong table]\n{row}\n")
        with pytest.raises(AssertionError, match="line 2: claimed 0"):
            play(read_scenarios(wrong)[0])
