"""The guided tour as a person runs it: it ends well, proves its bill, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.demo.audience import FINAL
from gateway.demo.cast import REACHED, REMINDED

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
END_WAIT_S = 180.0  # of a demo that hangs: among others it takes a minute


def environment(temporary: Path) -> dict[str, str]:
    """As on a fresh machine: nothing of Kaskad is set."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KASKAD_", "INFOBIP_"))}
    return kept | {"TMPDIR": str(temporary), "COLUMNS": "100", "NO_COLOR": "1"}


def demo(temporary: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "demo", *words],
        cwd=temporary,
        env=environment(temporary),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_naming(text: str) -> list[str]:
    """Command lines of living processes that mention `text`."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def left_behind(temporary: Path) -> list[str]:
    return [*map(str, temporary.iterdir()), *processes_naming(str(temporary))]


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def test_the_demo_delivers_its_campaign_and_its_ledger_equals_the_bill(temporary: Path) -> None:
    out, err = demo(temporary, "--messages", "120").communicate(timeout=END_WAIT_S)
    assert err == ""
    for words in (
        "started",
        "Accepted",
        "Duplicates",
        "Capped",
        "Delivered by Viber",
        "Delivered by SMS",
        "Undelivered",
        "Clicked in Viber",
        "fetched by previewers and scanners",
        "Clicked, and links followed by people",
        "Cost per delivered",
        "Saved",
        "Viber until it is seen, then SMS for what is important",
        "A person's own order: SMS, then Viber",
        "held until 09:00 (send_window)",
        "Paused, a campaign of 30: 30 held, 0 sent.",
        "One route over Push, E-mail, Viber and SMS",
        "Push: charged, EUR",
        "E-mail: charged, EUR",
        "equal the running totals",
        "the provider's own bill to the last unit",
        "with 3 faults planted",
        "On the invoice twice: 1",
        "Unknown to us: 1",
        "Another price: 1",
        "Written as a spreadsheet",
        "Trimmed from Redis behind them",
        "Both together equal the totals",
        "Everything that was started is stopped.",
    ):
        assert words in out
    assert left_behind(temporary) == []


def test_the_result_as_json_adds_up(temporary: Path) -> None:
    process = demo(temporary, "--messages", "200", "--seed", "5", "--json")
    out, err = process.communicate(timeout=END_WAIT_S)
    assert (process.returncode, err) == (0, "")
    shape = json.loads(out)
    assert shape["ok"]
    assert shape["ledger_agrees"]
    assert shape["bill_agrees"]
    assert shape["invoice"]["found"] == {"duplicate_line": 1, "unknown_to_us": 1, "price": 1}
    archived, (before, after) = shape["archive"], shape["archive"]["ledger_entries"]
    assert archived["agrees"]
    assert archived["rows"] > archived["messages_taken_out"] > 50
    assert before > after == 1, "the last entry of the one shard"
    assert shape["messages"] == 200
    held_back = shape["duplicates"] + shape["capped"] + shape["opted_out"]
    assert shape["accepted"] + held_back == 200
    arrived = shape["viber_delivered"] + shape["sms_delivered"]
    assert shape["accepted"] == arrived + shape["undelivered"]
    assert list(shape["clicks"]) == ["viber", "sms"]
    assert any(each["bot_clicks"] for each in shape["clicks"].values())
    acts = shape["acts"]
    outcomes = acts["reactions"]["outcomes"]
    assert sum(each["important"] + each["others"] for each in outcomes) == REMINDED
    assert not any(each["others"] for each in outcomes if each["second"])
    assert [step["channel"] for step in acts["own_order"]["steps"]] == ["sms", "viber"]
    assert acts["own_order"]["written"] == ["viber", "sms"]
    assert acts["send_window"]["held_reason"] == "send_window"
    assert acts["send_window"]["awake_status"] in FINAL
    assert acts["pause"]["held"] == acts["pause"]["messages"]
    assert acts["pause"]["sent_meanwhile"] == 0
    people = acts["reach"]["people"]
    assert [each["addresses"] for each in people] == [
        ["push", "email", "phone"],
        ["email", "phone"],
        ["phone"],
    ]
    assert sum(each["people"] for each in people) == REACHED
    for each in people:
        assert sum(each["reached"].values()) + each["nowhere"] == each["people"]
    for channel in ("push", "email", "viber", "sms"):
        assert sum(each["reached"][channel] for each in people)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-C", "SIGTERM"])
def test_an_interrupted_demo_leaves_nothing_behind(temporary: Path, number: int) -> None:
    process = demo(temporary, "--messages", "50000")
    assert process.stdout is not None
    while "Dispatcher" not in process.stdout.readline():
        assert process.poll() is None
    assert processes_naming(str(temporary))
    process.send_signal(number)
    _, err = process.communicate(timeout=END_WAIT_S)
    assert (process.returncode, err) == (1, "Interrupted.\n")
    deadline = time.monotonic() + END_WAIT_S
    while left_behind(temporary):
        assert time.monotonic() < deadline, left_behind(temporary)


def test_a_port_that_is_taken_is_said_and_everything_is_stopped(temporary: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        process = demo(temporary, "--messages", "10", "--port", port)
        _, err = process.communicate(timeout=END_WAIT_S)
    assert process.returncode == 1
    assert f"127.0.0.1:{port} cannot be listened on" in err
    assert "Traceback" not in err
    assert left_behind(temporary) == []
