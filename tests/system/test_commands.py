"""The commands that run for long, as real processes: up, simulate, and those beside them. What is
only asked beside them is forked from `tests.worlds.template`, which has a test of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from gateway.redis.server.embedded import EmbeddedRedis
from gateway.store.installation import installation
from tests.worlds import stack, template
from tests.worlds.patience import PATIENCE_S
from tests.worlds.ports import free_port
from tests.worlds.processes import gone

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
SHOP_KEY = "shop-key-for-the-tests"
SECRETS = {
    "KASKAD_SHOP_KEY": SHOP_KEY,
    "INFOBIP_API_KEY": "provider-key",
    "INFOBIP_CALLBACK_TOKEN": "callback-token",
    "KASKAD_ARCHIVE_KEY": "a key of the archive's hashes",
}
ROLES = ("redis-server", "gateway.cli serve", "gateway.cli dispatch")
HELLO = {"to": "+447700900123", "category": "transactional", "text": "Hello."}


class Place:
    """A configuration of its own, and the commands that are run with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.provider_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        text = (ROOT / "config/kaskad.toml").read_text()
        text = text.replace("8080", str(self.port)).replace("8090", str(self.provider_port))
        # What a killed dispatcher held is taken over soon, whatever the default is.
        text = text.replace("[lanes]", '[lanes]\nlease = "2s"\nheartbeat = "500ms"')
        (folder / "kaskad.toml").write_text(text)
        (folder / "prices.csv").write_text((ROOT / "config/prices.csv").read_text())
        self._started: list[subprocess.Popen[str]] = []
        self._forked: list[template.Forked | subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KASKAD_", "INFOBIP_"))}
        return kept | SECRETS | {"KASKAD_CONFIG": str(self.folder / "kaskad.toml")}

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        with (self.folder / f"{words[0]}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli", *words],
                env=self.environment | more,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._started.append(process)
        return process

    def _simulation(self) -> list[str]:
        """The words for a provider that delivers everything by Viber. Nothing is seen: what is seen
        after the archive had it has another row there."""
        words = f"simulate --port {self.provider_port} --viber-share 1 --knob viber_delivered=1"
        return [*words.split(), "--knob", "viber_undelivered=0", "--knob", "seen_share=0"]

    def simulate(self) -> subprocess.Popen[str]:
        return self.start(*self._simulation())

    def simulated(self) -> None:
        """The same, as a fork of what is loaded."""
        with (self.folder / "simulate.log").open("a") as log:
            words, written = self._simulation(), log.fileno()
            self._forked.append(template.start(words, self.environment, written, written))

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway.cli", *words],
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def asked(self, *words: str) -> str:
        """What a command says that ends with 0, as a fork of what is loaded."""
        with tempfile.TemporaryFile("r+") as out, (self.folder / "asked.log").open("a") as log:
            process = template.start(words, self.environment, out.fileno(), log.fileno())
            assert process.wait(PATIENCE_S) == 0, (words, self.log("asked"))
            out.seek(0)
            return out.read()

    def log(self, command: str) -> str:
        return (self.folder / f"{command}.log").read_text()

    def stop(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        for forked in self._forked:
            forked.kill()
            forked.wait()

    def call(self, path: str, body: dict[str, Any] | None = None, key: str = SHOP_KEY) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own address
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            return json.load(answer)


def until(true: Callable[[], Any], what: str) -> Any:
    """Waits for real processes, which may not answer yet when they are asked."""

    def look() -> Any:
        try:
            return true()
        except OSError:  # an answer that refuses is one as well
            return None

    return stack.until(what, look)


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    while words not in (line := process.stdout.readline()):
        assert line, f"it ended before it said {words!r}"


@pytest.fixture
def place(short_dir: Path) -> Iterator[Place]:
    place = Place(short_dir)
    try:
        yield place
    finally:
        place.stop()


def children_of(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for child in " ".join(file.read_text() for file in files).split()]


def child_of(process: subprocess.Popen[str], words: str) -> int:
    """The process id of the child whose command line holds `words`."""
    for pid in children_of(process.pid):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        if words in line:
            return pid
    raise OSError(f"no child runs {words}")


def test_up_runs_everything_archives_what_is_closed_and_other_commands_use_its_redis(
    place: Place,
) -> None:
    config = place.folder / "kaskad.toml"
    table = '\n[archive]\nurl = "files"\nevery = "6s"\nkeep = "1ms"\n'
    config.write_text(config.read_text().replace("\n[archive]\n", table))
    simulator = place.simulate()
    up = place.start("up")
    read_until(up, "Stop it with ctrl-C.")
    made = place.run("key", "new", "--app", "crm", "--scope", "send,read", "--json")
    key = json.loads(made.stdout)["key"]
    sent = place.call("/v1/messages", HELLO, key)
    assert sent["outcome"] == "accepted"
    shown = f"/v1/messages/{sent['id']}"
    until(lambda: place.call(shown, key=key)["billing"], "the message is delivered and billed")
    rows = json.loads(place.asked("report", "cost", "--group-by", "app", "--json"))["rows"]
    assert [(row["app"], row["delivered"]) for row in rows] == [("crm", 1)]
    place.asked("report", "verify")
    place.asked("check")
    second = place.run("up")
    assert second.returncode == 1
    assert "is in use by process" in second.stderr

    until(lambda: place.call(shown, key=key)["to"] is None, "it is in the archive alone")
    found = place.call("/v1/messages?phone=%2B447700900123", key=key)
    assert [each["id"] for each in found["items"]] == [sent["id"]]
    status = json.loads(place.asked("archive", "status", "--json"))
    assert status["tables"]["messages"]["rows"] == 1
    assert (status["reason"], status["failed_at"]) == (None, None)
    for words in (("archive", "verify"), ("report", "verify")):
        place.asked(*words)

    up.send_signal(signal.SIGTERM)
    assert up.wait(PATIENCE_S) == 0
    assert "Traceback" not in place.log("up")
    lines = [json.loads(line) for line in place.log("up").splitlines() if '"starting"' in line]
    assert {line["role"] for line in lines} == {"ingress", "dispatch"}
    assert len({line["digest"] for line in lines}) == 1
    assert {line["version"] for line in lines} == {metadata.version("kaskad")}
    again = json.loads(place.asked("report", "cost", "--json"))
    assert again["total"]["delivered"] == 1, "data survives, and needs no running server"
    simulator.send_signal(signal.SIGTERM)
    assert simulator.wait(PATIENCE_S) == 0


def test_up_starts_again_what_dies_loses_nothing_and_takes_its_roles_with_it(place: Place) -> None:
    place.simulated()
    up = place.start("up")
    read_until(up, "Stop it with ctrl-C.")
    before = [child_of(up, words) for words in ROLES]
    sent = place.call("/v1/messages", HELLO)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(
        lambda: (
            [child_of(up, words) for words in ROLES] != before
            and place.call("/readyz")["dispatchers"]
        ),
        "all three are back",
    )
    until(
        lambda: place.call(f"/v1/messages/{sent['id']}")["billing"],
        "what was accepted before is delivered",
    )
    assert "Traceback" not in place.log("up")
    children = [child_of(up, words) for words in ROLES]
    up.kill()
    up.wait(PATIENCE_S)
    until(lambda: all(map(gone, children)), "no role is left behind")


def test_up_passes_sighup_on_to_every_worker_and_a_new_one_begins_with_the_change(
    place: Place,
) -> None:
    place.simulated()
    file = place.folder / "kaskad.toml"
    file.write_text(file.read_text().replace("# workers = 1", "workers = 2"))
    up = place.start("up")
    read_until(up, "Stop it with ctrl-C.")
    file.write_text(file.read_text().replace('"KASKAD_SHOP_KEY"', '"INFOBIP_API_KEY"'))
    up.send_signal(signal.SIGHUP)
    workers_and_dispatcher = 3
    until(
        lambda: place.log("up").count("configuration_taken_over") == workers_and_dispatcher,
        "every worker and the dispatcher took it over",
    )
    key = SECRETS["INFOBIP_API_KEY"]
    sent = [place.call("/v1/messages", HELLO, key)["outcome"] for _ in range(20)]
    assert set(sent) == {"accepted"}
    (worker, *_) = children_of(child_of(up, "cli serve"))
    os.kill(worker, signal.SIGKILL)
    until(lambda: "process_ended" in place.log("up"), "the worker is missed")
    sent = [place.call("/v1/messages", HELLO, key)["outcome"] for _ in range(20)]
    assert set(sent) == {"accepted"}
    up.send_signal(signal.SIGINT)
    assert up.wait(PATIENCE_S) == 0
    assert "Traceback" not in place.log("up")


def test_up_ends_when_a_role_can_never_start(place: Place) -> None:
    with socket.create_server(("127.0.0.1", place.port)):
        done = place.run("up")
    assert done.returncode == 2
    assert f"127.0.0.1:{place.port} cannot be listened on" in done.stderr


def test_a_role_refuses_data_of_another_number_of_shards(place: Place) -> None:
    with EmbeddedRedis(place.folder / ".kaskad/redis") as redis:
        installation.prepare(redis.url, 1, "EUR")
    file = place.folder / "kaskad.toml"
    file.write_text(file.read_text().replace("# shards = 1", "shards = 4"))
    done = place.run("up")
    assert done.returncode == 2
    assert "set redis.shards = 1" in done.stderr
    assert "Traceback" not in done.stderr
