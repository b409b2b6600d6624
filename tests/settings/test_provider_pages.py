"""The configurations on the providers' pages are read, checked and connected as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from gateway.settings import bootstrap
from gateway.settings.file import load
from providers.registry import KINDS
from tests.worlds.provider_pages import PAGES, configurations, pages
from tests.worlds.push_examples import VAPID_KEY, google_key_pem, service_account

TABLE = (PAGES / "README.md").read_text()
_variable = re.compile(r'_env = "([^"]+)"')
SECRETS = {"VAPID_PRIVATE_KEY": VAPID_KEY}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_a_pages_configuration_works(page: Path, tmp_path: Path) -> None:
    service_account(tmp_path, "https://oauth2.googleapis.com/token")
    key = google_key_pem()
    (tmp_path / "vonage.key").write_bytes(key)
    blocks, rehearsal = configurations(page)
    assert blocks
    assert len(rehearsal) == 1, "a page ends with how it is rehearsed"
    for text in blocks:
        file = tmp_path / "kaskad.toml"
        file.write_text(text)
        env = {name: f"a-long-and-secret-value-of-{name}" for name in _variable.findall(text)}
        settings = load(file, env | {name: SECRETS[name] for name in SECRETS if name in env})

        async def connect(settings=settings) -> None:  # type: ignore[no-untyped-def]
            for name in settings.providers:
                await bootstrap.connect_provider(settings, name).aclose()

        trio.run(connect)


def test_every_page_and_every_kind_stands_in_the_table() -> None:
    for page in pages():
        assert f"]({page.name})" in TABLE
    cells = re.findall(r"^\| (`[^|]+`) \|", TABLE, re.MULTILINE)
    named = [kind for cell in cells for kind in re.findall(r"`([a-z-]+)`", cell)]
    assert sorted(named) == sorted(KINDS)
