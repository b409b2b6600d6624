"""The runbook of docs/operating.md, followed to the letter."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.system.test_commands import HELLO, ROOT, WAIT_S, Place, place, read_until, until

pytestmark = pytest.mark.system

__all__ = ["place"]  # the fixture


def commands_of(heading: str) -> list[str]:
    """The lines of the first block of commands under a heading in bold."""
    text = (ROOT / "docs/operating.md").read_text()
    found = re.search(rf"\*\*{re.escape(heading)}\*\*.*?```sh\n(.*?)```", text, re.DOTALL)
    assert found is not None, heading
    return found[1].splitlines()


def follow(place: Place, heading: str) -> None:
    """Runs what the runbook says; `kaskad up` is left running."""
    kaskad = place.folder / "bin" / "kaskad"
    kaskad.parent.mkdir(exist_ok=True)
    kaskad.write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m gateway.cli "$@"\n')
    kaskad.chmod(0o755)
    for line in commands_of(heading):
        if line.startswith("kaskad up"):
            read_until(place.start(*line.split()[1:]), "Stop it with ctrl-C.")
            continue
        path = f"{kaskad.parent}:{place.environment['PATH']}"
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=place.folder,
            env=place.environment | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
        )
        assert done.returncode == 0, (line, done.stderr)


def sent_by(place: Place) -> dict[str, int]:
    """How often the provider was asked to send each reference."""
    bill = f"http://127.0.0.1:{place.provider_port}/_sim/bill"
    with urllib.request.urlopen(bill, timeout=WAIT_S) as answer:
        messages = json.load(answer)["messages"]
    return {ref: message["requests"] for ref, message in messages.items()}


def stop(up: subprocess.Popen[str]) -> None:
    up.send_signal(signal.SIGTERM)
    assert up.wait(WAIT_S) == 0


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
