"""Each provider's page as somebody new follows it: its configuration with the keys of its
rehearsal, `kaskad check`, the simulator, `kaskad up`, a message, and what became of it.

All pages at once, in one Kaskad with one simulator: a page's routes have its name before theirs.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from providers.registry import KINDS
from tests.system.test_commands import Place, read_until, until
from tests.worlds.ports import free_port
from tests.worlds.provider_pages import PAGES, configurations, pages

pytestmark = pytest.mark.system

KEY, TOKEN = "the-key-of-the-simulator", "a-token-of-callbacks"
VAPID = "VAPID_PRIVATE_KEY"
COMMON = {"category": "transactional", "text": "Hello."}
BODIES: dict[str, dict[str, Any]] = {
    "viber": {"to": "+447700900123"},
    "sms": {"to": "+447700900123"},
    "email": {"to": {"email": "anna@example.com"}, "email": {"subject": "Hello"}},
    "fcm": {"to": {"push": [{"kind": "fcm", "token": "anna"}]}},
}
EVERYBODY = {
    **{f"{channel}_share": 1 for channel in ("viber", "email", "push")},
    **{f"{channel}_delivered": 1 for channel in ("viber", "sms", "email")},
    **{f"{channel}_undelivered": 0 for channel in ("viber", "sms", "email")},
}
Table = dict[str, Any]


def merged(old: Table, new: Table) -> Table:
    """Tables of both, the keys of the new one in the place of the old one's."""
    tables = {name for name in old.keys() & new.keys() if isinstance(old[name], dict)}
    return {**old, **new, **{name: merged(old[name], new[name]) for name in tables}}


def rehearsed(page: Path) -> Table:
    """The page's first configuration, with the keys of its rehearsal."""
    whole, (changes,) = configurations(page)
    found = merged(tomllib.loads(whole[0]), tomllib.loads(changes))
    found["routes"] = {f"{page.stem}-{name}": route for name, route in found["routes"].items()}
    return {table: found.get(table, {}) for table in ("server", "providers", "routes")}


def written(value: Any) -> str:
    """A value of TOML in one line."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(k)} = {written(v)}' for k, v in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    return json.dumps(value, ensure_ascii=False)


def commands(page: str) -> list[str]:
    """Those on a page that make a key of nobody's."""
    found = re.findall(r"```sh\n(.*?)```|`([^`\n]+)`", (PAGES / page).read_text(), re.DOTALL)
    return [text for texts in found for text in texts if "openssl" in text]


class Rehearsal(Place):
    """All pages in one folder, on ports of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.smtp_port, self.smpp_port = free_port(), free_port()
        tables: Table = {"server": {"port": 8080}}
        for page in pages():
            tables = merged(tables, rehearsed(page))
        self.routes: Table = tables["routes"]
        self.providers: Table = tables["providers"]
        lines = [f"{name} = {written(table)}\n" for name, table in tables.items()]
        (folder / "kaskad.toml").write_text(self.moved("".join(lines)))
        prices = [f"{name},,,0.0100,0.0150,EUR,2026-01-01\n" for name in self.providers]
        head = "provider,prefix,category,cost,sell,currency,valid_from\n"
        (folder / "prices.csv").write_text(head + "".join(prices))
        for command in (*commands("fcm.md"), *commands("vonage.md")):
            self.shell(command)
        (command,) = commands("webpush.md")
        self.vapid = self.shell(f'{command}; echo "${VAPID}"')

    def moved(self, text: str) -> str:
        """What the pages say, with other ports."""
        ports = (self.port, self.provider_port, self.smtp_port, self.smpp_port)
        for written_port, port in zip((8080, 8090, 2525, 2775), ports, strict=True):
            text = re.sub(rf"\b{written_port}\b", str(port), text)
        return text

    def shell(self, command: str) -> str:
        words = ["bash", "-c", self.moved(command)]
        done = subprocess.run(words, cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        named = {
            name: TOKEN if key == "callback_token_env" else KEY
            for provider in self.providers.values()
            for key, name in provider.items()
            if key.endswith("_env")
        }
        return super().environment | named | {VAPID: self.vapid}

    def body(self, route: str) -> dict[str, Any]:
        """A message to somebody whom the route's first provider reaches, as the pages say."""
        kind = self.providers[self.routes[route]["steps"][0]["provider"]]["kind"]
        if kind == "webpush":
            url = f"http://127.0.0.1:{self.provider_port}/_sim/browsers?name=anna"
            with urllib.request.urlopen(url) as answer:
                said: dict[str, Any] = {"to": {"push": [json.load(answer)]}}
        else:
            said = BODIES.get(kind) or BODIES[KINDS[kind].channel]
        return COMMON | said | {"route": route}


@pytest.fixture
def rehearsal(short_dir: Path) -> Iterator[Rehearsal]:
    rehearsal = Rehearsal(short_dir)
    try:
        yield rehearsal
    finally:
        rehearsal.stop()


def test_every_page_is_rehearsed_as_it_says(rehearsal: Rehearsal) -> None:
    checked = rehearsal.run("check")
    assert checked.returncode == 0, checked.stderr
    knobs = [word for name, value in EVERYBODY.items() for word in ("--knob", f"{name}={value}")]
    ports = f"--port {rehearsal.provider_port} --smtp-port {rehearsal.smtp_port}"
    rehearsal.start("simulate", *ports.split(), "--smpp-port", str(rehearsal.smpp_port), *knobs)
    read_until(rehearsal.start("up"), "Stop it with ctrl-C.")
    key = json.loads(rehearsal.run("key", "new", "--app", "shop", "--json").stdout)["key"]
    ids = {route: send(rehearsal, route, key) for route in rehearsal.routes}
    for route, id_ in ids.items():
        until(partial(is_delivered, rehearsal, id_, key), f"{route} is delivered")


def send(rehearsal: Rehearsal, route: str, key: str) -> str:
    sent = rehearsal.call("/v1/messages", rehearsal.body(route), key)
    assert sent["outcome"] == "accepted"
    return str(sent["id"])


def is_delivered(rehearsal: Rehearsal, id_: str, key: str) -> bool:
    items = rehearsal.call(f"/v1/messages/{id_}/timeline", key=key)["items"]
    return {item["event"] for item in items} >= {"accepted", "tried", "sent", "delivered"}
