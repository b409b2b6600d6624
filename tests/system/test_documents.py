"""What README, docs/calling.md and docs/operating.md show is run: their commands and samples work,
their addresses and figures exist."""

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

from gateway.ingress.http import openapi
from gateway.ingress.http.route import DocumentedSettings
from gateway.ingress.http.routes import ROUTES
from providers.simulator.knobs import Knobs, changed

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
CALLING = "docs/calling.md"
END_WAIT_S = 60.0


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def blocks_of(document: str, language: str = "sh") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(document), re.MULTILINE | re.DOTALL)


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


def shell(block: str, kept: dict[str, Any]) -> list[str]:
    """The command that does what a block shows, against the demo that is up. The samples need a
    curl, which a machine with Python and make need not have."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    block = block.replace("http://127.0.0.1:8080", kept["url"])
    block = re.sub(r"^export KASKAD_KEY=.*$", "", block, flags=re.MULTILINE)
    return ["bash", "-euc", block]


def run_shown(block: str, kept: dict[str, Any]) -> str:
    """Runs what a document shows against the demo that is up."""
    done = subprocess.run(
        shell(block, kept),
        cwd=ROOT,
        env=os.environ | {"KASKAD_KEY": kept["key"]},
        capture_output=True,
        text=True,
        timeout=END_WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks_with(words: str) -> list[str]:
    return [block for block in blocks_of("README.md") if words in block]


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


def test_the_curl_samples_send_stream_read_and_cancel(kept: dict[str, Any]) -> None:
    blocks = [block for block in blocks_of(CALLING) if "/v1/events" not in block]
    program = "".join(block for block in blocks if "/_sim/" not in block)
    id_, first, second, rest = run_shown(program, kept).split("\n", 3)
    read, after = json_documents(rest)
    assert [json.loads(line)["outcome"] for line in (first, second)] == ["accepted", "accepted"]
    assert read["id"] == id_
    assert after["status"] == 409 or after["id"] == id_


def json_documents(text: str) -> list[Any]:
    """Documents that follow one another, as answers on a terminal do."""
    found = []
    while text := text.strip():
        document, length = json.JSONDecoder().raw_decode(text)
        found.append(document)
        text = text[length:]
    return found


def test_the_curl_sample_follows_events(kept: dict[str, Any]) -> None:
    (block,) = (block for block in blocks_of(CALLING) if "/v1/events" in block)
    with subprocess.Popen(
        shell(f"exec {block}", kept),
        env=os.environ | {"KASKAD_KEY": kept["key"]},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("retry: ")
        process.terminate()


FOLLOW_TO_THE_END = """
for last_id, change in events("0-0.0"):
    if change["id"] == sent["id"] and change["status"] != "queued":
        break
print(change["id"])
"""


def test_the_python_sample_sends_streams_reads_cancels_and_follows(kept: dict[str, Any]) -> None:
    program = "".join(blocks_of(CALLING, "python")) + FOLLOW_TO_THE_END
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"KASKAD_KEY": kept["key"], "KASKAD_URL": kept["url"]},
        capture_output=True,
        text=True,
        timeout=END_WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    sent, first, second, _, _, followed = done.stdout.splitlines()
    assert sent == f"accepted {followed}"
    assert [first, second] == [f"order-{order}-ships accepted" for order in (10487, 10488)]


def test_the_node_sample_speaks_as_the_python_one_does() -> None:
    python, node = ("\n".join(blocks_of(CALLING, language)) for language in ("python", "js"))
    components = openapi.document(ROUTES, DocumentedSettings(1_000, ("viber", "sms")))["components"]
    keys = set().union(*(schema.get("properties", {}) for schema in components["schemas"].values()))

    def named(program: str) -> set[str]:
        """The methods, paths, headers and statuses of a program."""
        methods = re.findall(r'"(GET|POST|DELETE)"', program)
        paths = [path.rstrip("/") for path in re.findall(r"/v1/[a-z/]+", program)]
        headers = re.findall(r'"(Authorization|[A-Z][a-z]+(?:-[A-Za-z]+)+)"', program)
        return {*methods, *paths, *headers, *re.findall(r"\b[1-5][0-9]{2}\b", program)}

    assert {"POST", "/v1/events", "Idempotency-Key", "Retry-After", "408"} <= named(python)
    assert named(node) == named(python)
    spoken = keys & set(re.findall(r'"(\w+)"', python))
    assert {"to", "idempotency_key", "outcome", "final"} <= spoken
    assert spoken <= set(re.findall(r"\w+", node))


def test_the_numbers_of_the_test_mode_are_knobs_of_the_simulator() -> None:
    (block,) = (block for block in blocks_of(CALLING) if "/_sim/knobs" in block)
    patch = json.loads(block.partition("-d '")[2].rpartition("'")[0])
    assert changed(Knobs(), patch).by_phone.keys() == patch["by_phone"].keys()
    shown = re.findall(r"^\| …(\d+) \|", text_of(CALLING), re.MULTILINE)
    assert shown == [phone[-3:] for phone in patch["by_phone"]]
    (others,) = re.findall(r"^Other knobs .*?\n\n", text_of(CALLING), re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(\w+)`", others)) <= set(Knobs.__struct_fields__)
