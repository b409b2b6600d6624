"""docs/security.md names only tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_every_test_the_threat_model_names_exists() -> None:
    files = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)
    assert len(named) > 20
    for file, test in named:
        assert file in files, file
        assert re.search(rf"def {test}\(", files[file].read_text()), f"{file}::{test}"


def test_every_row_of_the_threat_model_is_shown_by_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| a")]
    assert len(rows) > 10
    assert all("::test_" in row for row in rows)
