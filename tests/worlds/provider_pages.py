"""The providers' pages, and the configurations that stand on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PAGES = Path(__file__).resolve().parents[2] / "docs" / "providers"
_block = re.compile(r"```toml\n(.*?)```", re.DOTALL)


class Configurations(NamedTuple):
    """Those that stand for themselves, and what the first of them is rehearsed with instead."""

    whole: list[str]
    rehearsal: list[str]


def pages() -> list[Path]:
    return sorted(page for page in PAGES.glob("*.md") if page.name != "README.md")


def configurations(page: Path) -> Configurations:
    whole, _, rehearsal = page.read_text().partition("\n## Rehearse it\n")
    return Configurations(_block.findall(whole), _block.findall(rehearsal))
