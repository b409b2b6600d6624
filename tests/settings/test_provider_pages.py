"""Every configuration that a page of docs/providers shows is one that Kaskad takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.settings.file import parse
from providers.registry import KINDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "providers").glob("*.md"))
BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"(?ms)^```toml\n(.*?)^```", page.read_text()))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_configuration_of_a_page_is_good(block: str) -> None:
    variables = re.findall(r'_env = "(\w+)"', block)
    settings = parse(block, Path("/etc/kaskad/kaskad.toml"), dict.fromkeys(variables, "s3cret"))
    assert settings.warnings == ()
    assert settings.providers


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_of_a_kind_shows_its_table(page: Path) -> None:
    if page.stem in KINDS:
        assert f'kind = "{page.stem}"' in page.read_text()
