"""The runbook of docs/operating.md, followed to the letter."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from gateway.core.records.codec import GUARDED, LOOSE, NEWEST, RESERVING, SCHEMA
from tests.system.test_commands import HELLO, ROOT, Place, place, read_until, until
from tests.worlds.patience import PATIENCE_S

pytestmark = pytest.mark.system

__all__ = ["place"]  # the fixture


def commands_of(heading: str) -> list[str]:
    """The lines of the first block of commands under a heading in bold."""
    text = (ROOT / "docs/operating.md").read_text()
    found = re.search(rf"\*\*{re.escape(heading)}\*\*.*?```sh\n(.*?)```", text, re.DOTALL)
    assert found is not None, heading
    return found[1].splitlines()


def follow(place: Place, heading: str, **version: str) -> subprocess.Popen[str] | None:
    """Runs what the runbook says, by the `version` that an environment names; `kaskad up` is left
    running and returned."""
    up = None
    kaskad = place.folder / "bin" / "kaskad"
    kaskad.parent.mkdir(exist_ok=True)
    kaskad.write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m gateway.cli "$@"\n')
    kaskad.chmod(0o755)
    for line in commands_of(heading):
        if line.startswith("kaskad up"):
            up = place.start(*line.split()[1:], **version)
            read_until(up, "Stop it with ctrl-C.")
            continue
        path = f"{kaskad.parent}:{place.environment['PATH']}"
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=place.folder,
            env=place.environment | {"PATH": path} | version,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, (line, done.stderr)
    return up


def newer_version(folder: Path) -> dict[str, str]:
    """The environment of a Kaskad whose records have the next schema, and which reads ours: an old
    version cannot be had on a build machine, so this one is the old one."""
    for package in ("gateway", "providers", "ratelimit"):
        shutil.copytree(ROOT / package, folder / package)
    codec = folder / "gateway/core/records/codec.py"
    text = codec.read_text()
    for ours, theirs in (
        (f"\nSCHEMA = {SCHEMA}\n", f"\nSCHEMA = {NEWEST + 1}\n"),
        (
            f"\nGUARDED, RESERVING, LOOSE = {GUARDED}, {RESERVING}, {LOOSE}\n",
            f"\nGUARDED, RESERVING, LOOSE = {NEWEST + 2}, {NEWEST + 3}, {NEWEST + 4}\n",
        ),
        ("range(SCHEMA, newest", f"range({SCHEMA}, newest"),
    ):
        assert ours in text
        text = text.replace(ours, theirs)
    codec.write_text(text)
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(folder)}


def sent_by(place: Place) -> dict[str, int]:
    """How often the provider was asked to send each reference."""
    bill = f"http://127.0.0.1:{place.provider_port}/_sim/bill"
    with urllib.request.urlopen(bill, timeout=PATIENCE_S) as answer:
        messages = json.load(answer)["messages"]
    return {ref: message["requests"] for ref, message in messages.items()}


def stop(up: subprocess.Popen[str]) -> None:
    up.send_signal(signal.SIGTERM)
    assert up.wait(PATIENCE_S) == 0


def test_what_was_waiting_in_a_backup_is_asked_for_and_not_sent_twice(place: Place) -> None:
    up = place.start("up")
    read_until(up, "Stop it with ctrl-C.")
    waiting = place.call("/v1/messages", HELLO)["id"]  # its provider is not there yet
    stop(up)
    follow(place, "Backup, embedded.")
    place.simulate()
    up = place.start("up")
    read_until(up, "Stop it with ctrl-C.")
    until(lambda: place.call(f"/v1/messages/{waiting}")["billing"], "it is sent and delivered")
    stop(up)
    before = sent_by(place)
    assert before == {f"{waiting}.0": 1}
    assert Path(place.folder / "backup").is_dir()
    follow(place, "Restore, embedded.")
    until(lambda: place.call(f"/v1/messages/{waiting}")["billing"], "the provider is asked")
    assert sent_by(place) == before
    assert place.run("report", "verify").returncode == 0


def test_an_upgrade_is_rolled_back_and_both_versions_may_share_a_redis(place: Place) -> None:
    newer = newer_version(place.folder / "newer")
    place.simulate()
    up = place.start("up")
    read_until(up, "Stop it with ctrl-C.")
    first = place.call("/v1/messages", HELLO)["id"]
    until(lambda: place.call(f"/v1/messages/{first}")["billing"], "it is delivered")
    stop(up)
    upgraded = follow(place, "Upgrade.", **newer)
    assert upgraded is not None
    assert place.call(f"/v1/messages/{first}")["billing"], "what the old version wrote is read"
    later = place.call("/v1/messages", HELLO)["id"]
    until(lambda: place.call(f"/v1/messages/{later}")["billing"], "it is delivered")
    refused = place.run("dispatch")
    assert (refused.returncode, "written by a newer Kaskad" in refused.stderr) == (2, True)
    stop(upgraded)
    back = follow(place, "Roll-back.")
    assert back is not None
    assert place.call(f"/v1/messages/{first}")["billing"]
    both_send(place, newer)
    stop(back)
    assert set(sent_by(place).values()) == {1}


def both_send(place: Place, newer: dict[str, str]) -> None:
    """A new dispatcher beside the old roles: everything is sent, whoever takes it."""
    dispatch = place.start("dispatch", **newer)
    until(lambda: '"dispatching"' in place.log("dispatch"), "it sends")
    before = len(sent_by(place))
    people = [HELLO | {"to": f"+4477009002{n:02}"} for n in range(20)]
    for body in people:
        place.call("/v1/messages", body)
    until(lambda: len(sent_by(place)) == before + len(people), "all are sent")
    stop(dispatch)
