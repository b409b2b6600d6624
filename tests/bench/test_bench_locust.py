"""The load test runs headless against a server that only pretends; its patterns are as named."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from bench.load_patterns import NOISY_TIMES, PATTERNS, Duration, noisy_rate
from tests.worlds.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
SLOW_S = 0.3


class Pretender:
    """Answers as the product would, keeps nothing but counts; `slow` takes SLOW_S for a single."""

    def __init__(self, *, slow: bool = False) -> None:
        self.seen: Counter[str] = Counter()
        self.persons: list[str] = []
        self.asked = threading.Event()
        self._slow = slow

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        headers = dict(scope["headers"])
        self.seen[f"{scope['method']} {headers[b'authorization'].decode()}"] += 1
        self.asked.set()
        status, answer = 200, b""
        if scope["method"] == "GET":
            step = {"sent_at": "2026-11-21T10:00:00.020Z"}
            found = {"created_at": "2026-11-21T10:00:00.000Z", "steps": [step]}
            answer = json.dumps(found).encode()
        else:
            items = [json.loads(line) for line in body.splitlines()]
            self.persons += [item["to"] for item in items]
            answer = b"\n".join([b'{"id":"M","outcome":"accepted"}'] * len(items))
            if headers[b"content-type"] == b"application/json":
                status = 202
                await asyncio.sleep(SLOW_S if self._slow else 0)
        length = (b"content-length", b"%d" % len(answer))
        await send({"type": "http.response.start", "status": status, "headers": [length]})
        await send({"type": "http.response.body", "body": answer})


@contextmanager
def served(app: Pretender) -> Iterator[str]:
    config = uvicorn.Config(app, port=0, lifespan="off", log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def locust(host: str, *words: str) -> dict[str, dict[str, Any]]:
    """Runs it headless; its statistics by name."""
    command = [sys.executable, "-m", "locust", "-f", "bench/locustfile.py", "--headless"]
    command += ["--json", "--only-summary", "--host", host, "--app-key", "quiet", *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return {row["name"]: row for row in json.loads(ended.stdout)}


def test_every_kind_of_user_takes_part() -> None:
    app = Pretender()
    with served(app) as host:
        # Few enough that a slow machine can make them, and a second more than a stall takes.
        words = ("--pattern", "noisy", "--noisy-key", "loud", "--rate", "20", "--seconds", "6")
        stats = locust(host, *words, "--lines", "6")
    names = {"single post", "stream of 6", "OTP", "status", "accepted to sent", "noisy app"}
    assert names <= set(stats)
    assert all(row["num_failures"] == 0 for row in stats.values())
    assert stats["accepted to sent"]["max_response_time"] == 20
    assert app.seen["POST Bearer loud"] > app.seen["POST Bearer quiet"]
    assert len(set(app.persons)) == len(app.persons)


def test_the_web_page_sets_key_pattern_rate_and_length() -> None:
    app, port = Pretender(), free_port()
    command = [sys.executable, "-m", "locust", "-f", "bench/locustfile.py", "SinglePoster"]
    command += ["--web-host", "127.0.0.1", "--web-port", str(port)]
    with served(app) as host, subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as ran:
        try:
            assert ran.stderr is not None
            assert any(b"web interface at" in line for line in ran.stderr), "it never served"
            drain = threading.Thread(target=ran.stderr.read)
            drain.start()
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as page:
                (said,) = re.findall(r"window.templateArgs = ({.*})\n", page.get("/").text)
                options = json.loads(said)["extra_options"]
                fields = {"app_key": "of-the-page", "pattern": "burst", "rate": "50"}
                fields |= {"seconds": "2s", "host": host}
                assert page.post("/swarm", data=fields).json()["success"]
            assert app.asked.wait(20), "nothing was sent"
        finally:
            ran.terminate()
        drain.join()
    assert fields.keys() - {"host"} <= options.keys()
    assert {name for name, option in options.items() if option["is_secret"]} == {
        "app_key",
        "noisy_key",
    }
    assert options["pattern"]["choices"] == list(PATTERNS)
    assert set(app.seen) == {"POST Bearer of-the-page"}


@pytest.mark.parametrize("several", ["--processes 2", "--master --master-bind-port {port}"])
def test_more_than_one_process_is_refused(several: str) -> None:
    option = several.format(port=free_port()).split()
    words = ["-f", "bench/locustfile.py", "--headless", *option, "--host", "http://h"]
    ended = subprocess.run(
        [sys.executable, "-m", "locust", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert " ".join(ended.stderr.split()).count("is one process: leave out --processes") == 1


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("5s", 5), ("1.5m", 90), ("1h", 3600)])
def test_a_length_is_told_as_people_write_it(text: str, seconds: float) -> None:
    assert Duration(text) == seconds


def test_a_length_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="write 90, 5s, 2m or 1h"):
        Duration("5 parsecs")


def test_arrivals_do_not_wait_for_answers() -> None:
    app = Pretender(slow=True)
    with served(app) as host:
        stats = locust(host, "--rate", "100", "--seconds", "4s", "SinglePoster")
    # A closed model with one user would have asked thirteen times.
    assert stats["single post"]["num_requests"] > 100
    assert stats["single post"]["min_response_time"] >= SLOW_S * 1000


def test_steady_is_steady_and_the_others_rise() -> None:
    assert {PATTERNS["steady"](at_s, 10, 90) for at_s in range(90)} == {10}
    assert max(PATTERNS["burst"](at_s, 10, 90) for at_s in range(90)) == 50
    assert sum(PATTERNS["burst"](at_s, 10, 30) > 10 for at_s in range(30)) == 5
    ramp = [PATTERNS["ramp"](at_s, 10, 90) for at_s in (0, 9, 10, 25)]
    assert ramp == [10, 10, 20, 30]


@pytest.mark.parametrize(("at_s", "times"), [(0, 0), (29, 0), (30, NOISY_TIMES), (60, 0)])
def test_the_noisy_app_is_loud_in_the_middle_third(at_s: float, times: float) -> None:
    assert noisy_rate("noisy", at_s, 10, 90) == 10 * times
    assert noisy_rate("steady", at_s, 10, 90) == 0
