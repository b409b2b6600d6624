"""docs/security.md names only tests that exist, and reviews exactly what is locked."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_every_test_the_threat_model_names_exists() -> None:
    named = re.findall(r"`((?:\w+/)+test_\w+\.py)::(test_\w+)`", PAGE)
    assert len(named) > 20
    for name, test in named:
        file = ROOT / "tests" / name
        assert file.is_file(), name
        assert re.search(rf"def {test}\(", file.read_text()), f"{name}::{test}"


def test_every_row_of_the_threat_model_is_shown_by_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| a")]
    assert len(rows) > 10
    assert all("::test_" in row for row in rows)


def test_the_review_of_packages_is_of_those_that_are_locked() -> None:
    lock = (ROOT / "requirements" / "run.txt").read_text()
    locked = set(re.findall(r"^([a-z0-9_.-]+)==([^ ]+)", lock, re.MULTILINE))
    review = PAGE.partition("## What we depend on, reviewed")[2]
    reviewed = set(re.findall(r"[|,] ([a-z0-9_.-]+) (\d[^ ,|]*)(?= \||,)", review))
    assert len(locked) > 30
    assert reviewed == locked, "look at what changed, then renew the review"
