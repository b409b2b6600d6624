"""An ingress process is killed in the middle of a stream: its promises hold, and no others.

Every line that was answered `accepted` reaches a final status; the client sends the rest again to
another process, and nobody gets anything twice.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from typing import Any

from tests.worlds.stack import Stack, phone, stack

LINES = 2_000
CHUNK = 50
BEFORE = 400  # answers the client has when the process dies
JOIN_S = 30.0
KNOBS: dict[str, Any] = {"viber_share": 0.7}
CONFIG: dict[str, Any] = {
    "server": {"workers": 1},
    "categories": {name: {"route": "patient"} for name in ("otp", "transactional", "marketing")},
}


def test_a_killed_ingress_keeps_every_promise_it_made() -> None:
    with stack(ingress=2, dispatchers=1, config=CONFIG, knobs=KNOBS) as kaskad:
        bodies = [
            {"to": phone(), "category": "marketing", "campaign": "flood", "text": "Hello"}
            for _ in range(LINES)
        ]
        promised = stream_until_killed(kaskad, bodies)
        assert BEFORE <= len(promised) < LINES, "the stream was over before the process died"
        assert {answer["outcome"] for answer in promised} == {"accepted"}
        assert [answer["line"] for answer in promised] == list(range(1, len(promised) + 1))

        # The client goes on from the first line without an answer.
        rest = bodies[len(promised) :]
        again: list[dict[str, Any]] = []
        for start in range(0, len(rest), 1000):
            again += kaskad.post(rest[start : start + 1000]).json
        assert {answer["outcome"] for answer in again} <= {"accepted", "duplicate"}
        ids = [answer["id"] for answer in (*promised, *again)]
        assert len(set(ids)) == LINES
        kaskad.when_all_final(ids)
        assert kaskad.cost()["total"]["accepted"] == LINES
        kaskad.ledger_equals_bill()
        kaskad.nothing_was_sent_twice()
        kaskad.books_agree()


def stream_until_killed(kaskad: Stack, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Streams to the second ingress and kills it after BEFORE answers; all answers that came."""
    ingress = [one for one in kaskad.processes if one.name == "ingress"][1]
    answers: list[dict[str, Any]] = []
    reached = threading.Event()

    with kaskad.stream(ingress=1) as stream:

        def read() -> None:
            # The connection ends in the middle of something, in one of these ways.
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                stream.begin()
                while (answer := stream.line()) is not None:
                    answers.append(answer)
                    if len(answers) >= BEFORE:
                        reached.set()

        def write() -> None:
            with contextlib.suppress(OSError):
                for start in range(0, LINES, CHUNK):
                    lines = [json.dumps(body).encode() for body in bodies[start : start + CHUNK]]
                    stream.write(b"\n".join(lines) + b"\n")
                stream.end()

        threads = [threading.Thread(target=work, daemon=True) for work in (read, write)]
        for thread in threads:
            thread.start()
        assert reached.wait(JOIN_S)
        ingress.kill()
        for thread in threads:
            thread.join(JOIN_S)
            assert not thread.is_alive()
    return answers
