"""SIGHUP under load, by real processes: a changed file is taken over, and no request fails. That
limits hold within two seconds of it is in tests/simulation/test_changed_rate.py."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.worlds.stack import Process, Stack, default_config, phone, stack, until
from tests.worlds.toml_text import merged, toml

VIBER = "infobip-viber"
SLOW = {"providers": {VIBER: {"rate": "1/s"}}}
CAP = [{"name": "one-a-day", "category": "marketing", "limit": 1, "window": "1d"}]
TAKEN = '"configuration_taken_over"'


def plain(to: str, **keys: object) -> dict[str, Any]:
    return {"to": to, "category": "transactional", "text": "Your order is on its way.", **keys}


def write(running: Stack, changes: dict[str, Any]) -> None:
    base = default_config(running.ports[0], running.simulator.base_url)
    running.config.write_text(toml(merged(base, changes)))


def take_over(running: Stack, told: list[Process], times: int) -> None:
    """Sends SIGHUP, and waits until the change was taken over so often, in all logs."""
    for process in told:
        process.signal(signal.SIGHUP)
    until(
        f"taken over {times} times",
        lambda: sum(process.log.count(TAKEN) for process in running.processes) >= times,
    )


def refused_twice(process: Process) -> None:
    until("refused", lambda: process.log.count('"configuration_refused"') >= 2)


@contextmanager
def load(running: Stack) -> Iterator[Counter[int]]:
    """Requests one after the other from a thread, for the length of the block: the answers."""
    answers: Counter[int] = Counter()
    over = threading.Event()

    def work() -> None:
        with running.client() as client:
            while not over.is_set():
                body = plain(phone(), route="sms-only")
                answers[client.post("/v1/messages", body).status] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        until("requests are answered", lambda: answers.total() >= 20)
        yield answers
        seen = answers.total()
        until("requests go on", lambda: answers.total() >= seen + 20)
    finally:
        over.set()
        thread.join()


def test_rates_and_caps_change_while_requests_go_on() -> None:
    knobs = {"viber_share": 1.0, "viber_delivered": 1.0, "viber_undelivered": 0.0}
    with stack(dispatchers=2, config=SLOW, knobs=knobs) as running:
        ids = running.accept_all([plain(phone(), route="viber-only") for _ in range(100)])
        with load(running) as answers:
            # A hundred at one a second would take far longer than anything here waits.
            write(running, {"caps": CAP, "server": {"workers": 2}})
            take_over(running, running.processes, 3)
            running.when_all_final(ids)
            again = plain(phone(), category="marketing", route="sms-only")
            outcomes = [running.post(again | {"campaign": name}).json["outcome"] for name in "ab"]
            assert outcomes == ["accepted", "suppressed"]
        assert set(answers) == {202}
        assert all('"server.workers"' in process.log for process in running.processes)


def test_a_faulty_file_is_refused_and_the_old_one_stays() -> None:
    arrives = {
        "sms_delivered": 1.0,
        "sms_undelivered": 0.0,
    }  # as it may not, by the simulator's draw
    with stack(ingress=1, dispatchers=1, knobs=arrives) as running:
        write(running, {"caps": [CAP[0] | {"limit": 0}], "server": {"port": "a"}})
        for process in running.processes:
            process.signal(signal.SIGHUP)
        for process in running.processes:
            refused_twice(process)
            assert TAKEN not in process.log
        assert running.when(running.accept(phone()))["status"] == "delivered"
