"""Every fault of the storm: what begins it, what ends it, and how long it may last.

A fault is two calls on a Stage. Those of one `place` exclude each other (a process cannot be both
stopped and dead); the storm may do several at different places at once. Whatever began is ended,
also when the run breaks off.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import NamedTuple

from bench.chaos.stage import SMS, VIBER, Stage
from bench.processes import BenchFailed

MEMORY_ROOM = 20_000  # bytes Redis may still take when it is full
DISK_ROOM = 3_000  # bytes its file may still grow: less than a second's writes
UNKNOWN_RECEIPTS = 50
STOP_S_MAX = 25.0

Act = Callable[[Stage], None]


class Fault(NamedTuple):
    """`place` is what it needs for itself; `lasts_s` the shortest and longest time."""

    name: str
    place: str
    lasts_s: tuple[float, float]
    begin: Act
    end: Act


def every() -> list[Fault]:
    """All faults."""
    return [*_processes(), *_ways(), *_redis(), *_provider(), *_receipts()]


def _nothing(_: Stage) -> None:
    return


def _redis_again(stage: Stage) -> None:
    stage.revive("redis")


def _processes() -> list[Fault]:
    found = []
    for name, what in (("i0", "ingress"), ("i1", "ingress"), ("d0", "dispatcher"),
                       ("d1", "dispatcher")):  # fmt: skip

        def kill(stage: Stage, name: str = name) -> None:
            stage.kill(name)

        def stop(stage: Stage, name: str = name) -> None:
            stage.roles[name].process.send_signal(signal.SIGSTOP)

        def go_on(stage: Stage, name: str = name) -> None:
            stage.roles[name].process.send_signal(signal.SIGCONT)

        def revive(stage: Stage, name: str = name) -> None:
            stage.revive(name)

        def term(stage: Stage, name: str = name) -> None:
            stage.down.add(name)
            stage.roles[name].process.terminate()

        def after_term(stage: Stage, name: str = name) -> None:
            stage.roles[name].process.wait(STOP_S_MAX)
            stage.revive(name)

        found += [
            Fault(f"kill -9 {what}", name, (0.2, 2.0), kill, revive),
            Fault(f"SIGTERM {what} under load", name, (0.5, 2.0), term, after_term),
        ]
        if what == "dispatcher":
            found.append(Fault("SIGSTOP dispatcher past its lease", name, (3.0, 5.0), stop, go_on))
    return found


def _ways() -> list[Fault]:
    """Connections, by the proxies."""
    found = []
    for way, what in (
        ("redis-i0", "ingress and Redis"),
        ("redis-d0", "dispatcher and Redis"),
        ("redis", "all and Redis"),
        ("provider-d0", "dispatcher and provider"),
        ("provider", "all and provider"),
        ("callbacks", "provider and ingress"),
    ):
        for mode, lasts in (
            ("cut", (0.1, 2.0)), ("hang", (1.0, 4.0)), ("delay", (2.0, 4.0)),
            ("truncate", (0.5, 2.0)),
        ):  # fmt: skip

            def begin(stage: Stage, way: str = way, mode: str = mode) -> None:
                stage.proxy(way, mode, ms=stage.draw.choice((20, 100, 300)))

            def end(stage: Stage, way: str = way) -> None:
                stage.proxy(way, "pass")

            place = "way " + way.partition("-")[0]
            found.append(Fault(f"{mode}: {what}", place, lasts, begin, end))
    return found


def _redis() -> list[Fault]:
    def kill(stage: Stage) -> None:
        stage.kill_redis()

    def fill(stage: Stage) -> None:
        used = int(stage.redis.info("memory")["used_memory"])
        stage.redis.config_set("maxmemory", used + MEMORY_ROOM)

    def empty(stage: Stage) -> None:
        stage.redis.config_set("maxmemory", 0)

    def lock(stage: Stage) -> None:
        stage.redis.config_set("min-replicas-to-write", 1)

    def unlock(stage: Stage) -> None:
        stage.redis.config_set("min-replicas-to-write", 0)

    def slow(stage: Stage) -> None:
        stage.redis.execute_command("DEBUG", "SLEEP", stage.draw.choice((0.3, 1.0, 2.5)))

    def disk(stage: Stage) -> None:
        stage.down.add("redis")
        stage.fill_disk(DISK_ROOM)

    def room(stage: Stage) -> None:
        if stage.redis_runs:
            # It may have met the limit and live on; with room it goes on like after a restart.
            stage.kill_redis()
        stage.revive("redis")

    return [
        Fault("kill -9 Redis", "Redis", (0.1, 2.0), kill, _redis_again),
        Fault("Redis full (maxmemory, noeviction)", "Redis", (1.0, 4.0), fill, empty),
        Fault("Redis refuses writes (no replica)", "Redis", (1.0, 3.0), lock, unlock),
        Fault("Redis stands still", "Redis", (0.1, 0.2), slow, _nothing),
        Fault("disk full under Redis", "Redis", (1.0, 2.5), disk, room),
    ]


def _provider() -> list[Fault]:
    knobs: list[tuple[str, dict[str, object]]] = [
        ("provider 5xx", {"server_error_share": 0.4}),
        ("provider 5xx, taken all the same",
         {"server_error_share": 0.4, "server_error_accepts": True}),
        ("provider 429", {"throttle_share": 0.4}),
        ("timeout before the request was read", {"outage": "hang"}),
        ("connections refused", {"outage": "refuse"}),
        ("provider unavailable", {"outage": "unavailable"}),
        ("request lost", {"lost_share": 0.4}),
        ("answer lost after the request was read", {"answer_lost_share": 0.4}),
        ("timeout after the request was read", {"answer_ms_min": 2_500, "answer_ms_max": 3_000}),
        ("garbage or truncated answer", {"garbage_share": 0.4}),
        ("some messages rejected in a 200", {"reject_share": 0.2}),
    ]  # fmt: skip
    return [_knob(name, "provider", (1.0, 4.0), turned) for name, turned in knobs]


def _receipts() -> list[Fault]:
    knobs: list[tuple[str, dict[str, object]]] = [
        ("receipts repeated", {"repeat_share": 0.5, "repeat_times": 3}),
        ("receipts reordered", {"reordered_share": 0.5}),
        ("receipts before the answer", {"early_share": 0.5}),
        ("receipts after the step's time", {"late_share": 0.2, "late_ms": 10_000}),
        ("receipts 2,000 in a request", {"push_reports_max": 2_000, "flush_ms": 2_500}),
    ]
    found = [_knob(name, "receipts", (1.0, 4.0), turned) for name, turned in knobs]
    return [
        *found,
        Fault("receipts malformed", "forger", (0.1, 0.2), _malformed, _nothing),
        Fault("receipts for unknown ids", "forger", (0.1, 0.2), _unknown, _nothing),
    ]


USUAL: dict[str, object] = {
    "server_error_share": 0.0, "server_error_accepts": False, "throttle_share": 0.0,
    "outage": "none", "lost_share": 0.0, "answer_lost_share": 0.0, "answer_ms_min": 2,
    "answer_ms_max": 20, "garbage_share": 0.0, "reject_share": 0.0, "repeat_share": 0.0,
    "repeat_times": 1, "reordered_share": 0.0, "early_share": 0.0, "late_share": 0.0,
    "late_ms": 5_000, "push_reports_max": 100, "flush_ms": 5,
}  # fmt: skip


def _knob(name: str, place: str, lasts_s: tuple[float, float], knobs: dict[str, object]) -> Fault:
    def begin(stage: Stage) -> None:
        stage.turn(**knobs)

    def end(stage: Stage) -> None:
        stage.turn(**{knob: USUAL[knob] for knob in knobs})

    return Fault(name, place, lasts_s, begin, end)


def _malformed(stage: Stage) -> None:
    """A good receipt between bad ones, and bodies that are nothing at all."""
    results: list[object] = [{"messageId": 7}, None, {"status": {}}, _receipt("nobody")]
    for body in (json.dumps({"results": results}).encode(), b'{"results":[{', b"\xff\xfe", b"[]"):
        _must_not_break(stage.callback(VIBER, body))


def _unknown(stage: Stage) -> None:
    """Receipts that are none of ours: of strange ids, and of ids such as ours are."""

    def letters() -> str:
        return "".join(stage.draw.choices("0123456789ABCDEFGHJKMNPQRSTVWXYZ", k=9))

    ids = [f"{letters()}00{letters()}.0" for _ in range(UNKNOWN_RECEIPTS)]
    results = [_receipt(id_) for id_ in [*ids, "a strange id"]]
    for provider in (VIBER, SMS):
        _must_not_break(stage.callback(provider, json.dumps({"results": results}).encode()))


def _receipt(id_: str) -> dict[str, object]:
    return {
        "bulkId": "b",
        "messageId": id_,
        "to": "79160000000",
        "sentAt": "2026-01-01T00:00:00.000+0000",
        "doneAt": "2026-01-01T00:00:01.000+0000",
        "price": {"pricePerMessage": 0.01, "currency": "EUR"},
        "status": {"id": 5, "groupId": 3, "groupName": "DELIVERED", "name": "DELIVERED_TO_HANDSET"},
        "error": {"id": 0, "groupId": 0, "name": "NO_ERROR", "permanent": False},
    }


def _must_not_break(status: int) -> None:
    """Taken, refused as unreadable, or nobody there: never a 500."""
    if status not in (0, 200, 400, 422, 503):
        raise BenchFailed(f"A forged callback was answered with {status}.")
