"""The embedded Redis of `kaskad up` is killed in the middle of a campaign, and comes back.

Meanwhile senders are told to come again; afterwards nothing that was accepted is lost, nothing is
sent twice, and the ledger is the provider's bill.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.worlds.http_client import Answer
from tests.worlds.stack import Stack, phone, stack, until

CAMPAIGN = 400
BATCH = 40
DEATHS = 2
LEASE_S = 2.0
KNOBS: dict[str, Any] = {"viber_share": 0.7, "answer_ms_min": 20, "answer_ms_max": 80}
CONFIG: dict[str, Any] = {
    "providers": {"infobip-viber": {"rate": "150/s", "batch": 10}},
    "categories": {name: {"route": "patient"} for name in ("otp", "transactional", "marketing")},
}


def redis_pid(kaskad: Stack) -> int:
    """Of the one that serves; a killed one leaves its file until the next one writes its own."""
    return int((kaskad.directory / "redis" / "redis.pid").read_text() or "0")


def sent_however_often(kaskad: Stack, body: list[dict[str, Any]], key: str) -> list[str]:
    """Posts an array until it is taken, as a client that obeys the answers does; the ids."""
    answers: list[Answer] = []

    def post() -> bool:
        answers.append(kaskad.post(body, Idempotency_Key=key))
        if answers[-1].status == 503:
            assert int(answers[-1].headers["retry-after"]) > 0
            return False
        assert answers[-1].status == 200, answers[-1]
        return all(item["outcome"] == "accepted" for item in answers[-1].json)

    until("the array is taken", post)
    return [item["id"] for item in answers[-1].json]


def test_a_killed_redis_is_healed_and_loses_nothing() -> None:
    bodies = [
        {"to": phone(), "category": "marketing", "campaign": "flood", "text": "Hello"}
        for _ in range(CAMPAIGN)
    ]
    with stack(ingress=0, dispatchers=0, config=CONFIG, knobs=KNOBS, own_redis=False) as kaskad:
        kaskad.start("up", "up")
        until("kaskad up serves", _answers(kaskad, 200))
        ids: list[str] = []
        killed: list[int] = []
        for start in range(0, CAMPAIGN, BATCH):
            batch = bodies[start : start + BATCH]
            ids += sent_however_often(kaskad, batch, f"batch {start}")
            if start in (3 * BATCH, 6 * BATCH):
                killed.append(redis_pid(kaskad))
                os.kill(killed[-1], signal.SIGKILL)
        assert len(killed) == len(set(killed)) == DEATHS
        assert redis_pid(kaskad) not in killed
        assert len(set(ids)) == CAMPAIGN
        messages = kaskad.when_all_final(ids)
        assert len(messages) == CAMPAIGN
        assert kaskad.cost()["total"]["accepted"] == CAMPAIGN
        kaskad.ledger_equals_bill()
        kaskad.nothing_was_sent_twice()
        kaskad.books_agree()


def test_while_redis_is_away_senders_are_told_and_dispatch_goes_on_afterwards() -> None:
    config = {**CONFIG, "providers": {"infobip-viber": {"rate": "20/s", "batch": 5}}}
    with stack(config=config, knobs=KNOBS) as kaskad:
        body = {"to": phone(), "category": "otp", "text": "Code 17"}
        ids = [kaskad.accept(phone()) for _ in range(60)]
        stopped = time.monotonic()
        kaskad.redis.stop()
        answers = [
            until("the outage is noticed", _unavailable(kaskad, body)),
            kaskad.post([body]),
            kaskad.get(f"/v1/messages/{ids[0]}"),
            kaskad.get("/v1/reports/cost"),
        ]
        assert [answer.status for answer in answers] == [503] * 4
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
        types = {answer.headers["content-type"] for answer in answers}
        assert types == {"application/problem+json"}
        assert kaskad.get("/readyz").status == 503
        assert kaskad.get("/healthz").status == 200
        assert kaskad.get("/metrics").status == 200
        # The dispatcher's lease lapses, so no lane of it may send before it is proven again.
        until("the lease is over", lambda: time.monotonic() > stopped + LEASE_S)
        kaskad.redis.start()
        until("it is ready again", _answers(kaskad, 200))
        assert len(kaskad.when_all_final(ids)) == len(ids)
        kaskad.ledger_equals_bill()
        kaskad.nothing_was_sent_twice()
        kaskad.books_agree()


def _unavailable(kaskad: Stack, body: dict[str, Any]) -> Callable[[], Answer | None]:
    def look() -> Answer | None:
        answer = kaskad.post(body)
        return answer if answer.status == 503 else None

    return look


def test_a_killed_up_leaves_nothing_behind_and_its_successor_goes_on() -> None:
    """kill -9 of `kaskad up`: its Redis and its roles end too, and the next one finds all."""
    with stack(ingress=0, dispatchers=0, knobs=KNOBS, own_redis=False) as kaskad:
        up = kaskad.start("up", "up")
        until("kaskad up serves", _answers(kaskad, 200))
        kaskad.simulator.turn(outage="refuse")
        ids = kaskad.accept_all(
            [{"to": phone(), "category": "otp", "text": "Code 17"} for _ in range(50)]
        )
        redis = redis_pid(kaskad)
        up.kill()
        until("its Redis has ended", lambda: not Path(f"/proc/{redis}").exists())
        kaskad.simulator.turn(outage="none")
        until("its ingress has ended", _answers(kaskad, 0))
        kaskad.start("up", "up")
        until("its successor serves", _answers(kaskad, 200))
        assert len(kaskad.when_all_final(ids)) == 50
        kaskad.ledger_equals_bill()
        kaskad.nothing_was_sent_twice()


def _answers(kaskad: Stack, status: int) -> Callable[[], bool]:
    """Whether /readyz answers with the status; 0 is no answer at all."""

    def look() -> bool:
        with kaskad.client() as client:
            try:
                return client.get("/readyz").status == status
            except OSError:
                return status == 0

    return look
