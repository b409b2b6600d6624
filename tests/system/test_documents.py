"""What README and docs/operating.md show is run: their commands, addresses and figures exist."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
END_WAIT_S = 60.0


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def shell_blocks(document: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", text_of(document), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A demo that stays up, as the README has it: its address and a key."""
    temporary = tmp_path_factory.mktemp("kept")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KASKAD_")}
    with subprocess.Popen(
        [sys.executable, *f"-m gateway.cli demo --messages 20 --keep --json --port {port}".split()],
        env=environment | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        result = json.loads(process.stdout.readline())
        assert result["url"].endswith(port)
        yield result
        process.send_signal(signal.SIGINT)
        assert process.wait(END_WAIT_S) == 0
    assert list(temporary.iterdir()) == []


def run_shown(block: str, kept: dict[str, Any]) -> str:
    """Runs a README block against the demo that is up."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    block = block.replace("http://127.0.0.1:8080", kept["url"])
    block = re.sub(r"^export KASKAD_KEY=.*$", "", block, flags=re.MULTILINE)
    done = subprocess.run(
        ["bash", "-euc", block],
        cwd=ROOT,
        env=os.environ | {"KASKAD_KEY": kept["key"]},
        capture_output=True,
        text=True,
        timeout=END_WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks_with(words: str) -> list[str]:
    return [block for block in shell_blocks("README.md") if words in block]


def test_the_first_message_of_the_readme_is_accepted(kept: dict[str, Any]) -> None:
    (block,) = blocks_with("application/json")
    answer = json.loads(run_shown(block, kept))
    assert (answer["outcome"], answer["status"]) == ("accepted", "queued")


def test_the_campaign_of_the_readme_is_answered_line_by_line(kept: dict[str, Any]) -> None:
    (block,) = blocks_with("application/x-ndjson")
    lines = [json.loads(line) for line in run_shown(block, kept).splitlines()]
    assert len(lines) == len(text_of("config/demo/campaign.ndjson").splitlines())
    assert {line["outcome"] for line in lines} <= {"accepted", "suppressed", "duplicate"}
    assert lines[0]["outcome"] == "accepted"


@pytest.mark.parametrize("document", ["README.md", "docs/operating.md"])
def test_every_address_that_a_document_names_answers(kept: dict[str, Any], document: str) -> None:
    text = text_of(document)
    paths = set(re.findall(r"<http://127\.0\.0\.1:8080(/[\w.]*)>", text))
    paths |= set(re.findall(r"`GET (/[\w.]*)`", text))
    assert paths
    # As a browser asks for pages that want a key: any user name, and the key as the password.
    proof = base64.b64encode(f"anybody:{kept['key']}".encode()).decode()
    for path in paths:
        request = urllib.request.Request(  # noqa: S310 - our own address
            kept["url"] + path, headers={"Authorization": f"Basic {proof}"}
        )
        with urllib.request.urlopen(request, timeout=END_WAIT_S) as answer:  # noqa: S310
            assert answer.status == 200


def test_every_figure_that_operating_names_is_counted(kept: dict[str, Any]) -> None:
    named = set(re.findall(r"`(kaskad_[a-z_]+)", text_of("docs/operating.md")))
    assert named
    with urllib.request.urlopen(f"{kept['url']}/metrics", timeout=END_WAIT_S) as answer:  # noqa: S310
        shown = set(re.findall(r"^# TYPE (\S+)", answer.read().decode(), re.MULTILINE))
    assert {name for name in named if name not in shown} == set()
