"""Every fault of the storm: what begins it, what ends it, and how long it may last.

A fault is two calls on a Stage. Those of one `place` exclude each other (a process cannot be both
stopped and dead); the storm may do several at different places at once. Whatever began is ended,
also when the run breaks off. Where only a count can tell that anything came of it, `shown` is that
count: a fault under which it stands still has not been injected.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import NamedTuple

from bench.chaos.stage import Stage
from bench.processes import BenchFailed
from bench.stack import SMS, VIBER

MEMORY_ROOM = 20_000  # bytes Redis may still take when it is full
DISK_ROOM = 8_192  # bytes its disk still has: less than a second's writes
UNKNOWN_RECEIPTS = 50
PROBED_S = 25.0  # so soon after a short outage a provider is tried again
STOP_S_MAX = 120.0  # a process that has not ended then never does
JUMP_MS = (2_000, 6_000)  # how far a clock jumps
HOURS_LATE_MS = 4 * 3_600_000
LATE_S = 3  # beyond a step's time: its wait, its grace and what the rest may take
SOON_MS = 600_000  # what is to come later than this is hours late
HOURS_LATE = "receipts hours late"

Act = Callable[[Stage], None]


class Fault(NamedTuple):
    """`place` is what it needs for itself; `lasts_s` the shortest and longest time; `shows_s` how
    long after its end it may show in a count."""

    name: str
    place: str
    lasts_s: tuple[float, float]
    begin: Act
    end: Act
    shown: Callable[[Stage], int] | None = None
    shows_s: float = 5.0


def every() -> list[Fault]:
    """All faults."""
    found = [*_processes(), *_ways(), *_redis(), *_clocks(), *_provider(), *_receipts()]
    return [*found, *_wires()]


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
        ("smpp", "dispatchers and SMSC"),
        ("smtp", "dispatchers and mail server"),
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
        stage.nodes.fill_disk(DISK_ROOM)

    def room(stage: Stage) -> None:
        stage.full_disks += stage.nodes.disk_was_full()
        if stage.nodes.runs:
            # It may have met the limit and live on; with room it goes on like after a restart.
            stage.kill_redis()
        stage.revive("redis")

    def follow(stage: Stage) -> None:
        stage.nodes.follow()

    def take_over(how: str) -> Act:
        return lambda stage: stage.nodes.take_over(how)

    return [
        Fault("failover to a replica, in order", "Redis", (0.5, 2.0), follow, take_over("order")),
        Fault("failover, the master killed", "Redis", (0.5, 2.0), follow, take_over("kill")),
        Fault("failover, the master hung", "Redis", (0.5, 2.0), follow, take_over("hang")),
        Fault("kill -9 Redis", "Redis", (0.1, 2.0), kill, _redis_again),
        Fault("Redis full (maxmemory, noeviction)", "Redis", (1.0, 4.0), fill, empty),
        Fault("Redis refuses writes (no replica)", "Redis", (1.0, 3.0), lock, unlock),
        Fault("Redis stands still", "Redis", (0.1, 0.2), slow, _nothing),
        Fault(
            "disk full under Redis", "Redis", (1.0, 2.5), disk, room, lambda stage: stage.full_disks
        ),
    ]


def _clocks() -> list[Fault]:
    """A machine's clock jumps while its processes run, and some seconds later back."""
    found = []
    for machine in (0, 1):
        for sign, name in ((1, "clock jumps forwards, and back"),
                           (-1, "clock jumps backwards, and forth")):  # fmt: skip
            jumped: list[int] = []

            def jump(
                stage: Stage, machine: int = machine, sign: int = sign, jumped: list[int] = jumped
            ) -> None:
                jumped.append(sign * stage.draw.randint(*JUMP_MS))
                stage.clocks.jump(machine, jumped[-1])

            def back(stage: Stage, machine: int = machine, jumped: list[int] = jumped) -> None:
                stage.clocks.jump(machine, -jumped.pop())

            found.append(Fault(name, f"clock {machine}", (1.0, 4.0), jump, back))
    return found


def _provider() -> list[Fault]:
    broken = ("500", "502", "503")
    knobs: list[tuple[str, dict[str, object], tuple[str, ...]]] = [
        ("provider 5xx", {"server_error_share": 0.4}, broken),
        ("provider 5xx, taken all the same",
         {"server_error_share": 0.4, "server_error_accepts": True}, broken),
        ("provider 429", {"throttle_share": 0.4}, ("429",)),
        ("timeout before the request was read", {"outage": "hang"}, ("hung",)),
        ("connections refused", {"outage": "refuse"}, ("refused",)),
        ("provider unavailable", {"outage": "unavailable"}, ("503",)),
        ("request lost", {"lost_share": 0.4}, ("lost",)),
        ("answer lost after the request was read", {"answer_lost_share": 0.4}, ("answer-lost",)),
        ("timeout after the request was read",
         {"answer_ms_min": 2_500, "answer_ms_max": 3_000}, ("200",)),
        ("garbage or truncated answer", {"garbage_share": 0.4}, ("garbage",)),
        ("some messages rejected in a 200", {"reject_share": 0.2}, ("200",)),
    ]  # fmt: skip

    def kill(stage: Stage) -> None:
        stage.kill_simulator()

    def again(stage: Stage) -> None:
        stage.start_simulator()

    return [
        Fault("kill -9 provider", "provider", (0.2, 2.0), kill, again),
        *(
            _knob(name, "provider", (1.0, 4.0), turned)._replace(shown=_outcome(*outcomes))
            for name, turned, outcomes in knobs
        ),
    ]


def _wires() -> list[Fault]:
    """What can happen over one wire only; sessions and mail connections are also among the ways."""
    lost: dict[str, object] = {"answer_lost_share": 0.6}
    found = [
        _knob(name, "provider", (1.0, 4.0), lost)._replace(shown=_outcome("answer-lost", of=what))
        for name, what in (
            ("SMPP: submit_sm taken, and never answered", "SMPP "),
            ("SMTP: connection cut after DATA", "SMTP "),
        )
    ]

    def away(stage: Stage) -> None:
        """A dispatcher that has just started has no token yet."""
        stage.proxy("token", "cut")
        stage.kill("d0")
        stage.revive("d0")

    def back(stage: Stage) -> None:
        stage.proxy("token", "pass")

    token = Fault("FCM: no token to be had, after kill -9", "d0", (4.0, 7.0), away, back)
    shown = _outcome("200", of="POST /token")
    return [*found, token._replace(shown=shown, shows_s=PROBED_S)]  # FCM is paused by then


def _outcome(*names: str, of: str = "POST ") -> Callable[[Stage], int]:
    """How many requests ended so, by the provider's count."""

    def count(stage: Stage) -> int:
        outcomes = stage.outcomes(of)
        return sum(outcomes[name] for name in names)

    return count


def _receipts() -> list[Fault]:
    knobs: list[tuple[str, dict[str, object]]] = [
        ("receipts repeated", {"repeat_share": 0.5, "repeat_times": 3}),
        ("receipts reordered", {"reordered_share": 0.5}),
        ("receipts before the answer", {"early_share": 0.5}),
        ("receipts 2,000 in a request", {"push_reports_max": 2_000, "flush_ms": 2_500}),
    ]
    found = [_knob(name, "receipts", (1.0, 4.0), turned) for name, turned in knobs]

    def late(stage: Stage) -> None:
        stage.turn(late_share=0.2, late_ms=1_000 * (stage.plan.wait_s + LATE_S))

    def in_time(stage: Stage) -> None:
        stage.turn(late_share=USUAL["late_share"], late_ms=USUAL["late_ms"])

    hours: dict[str, object] = {"late_share": 0.3, "late_ms": HOURS_LATE_MS}
    return [
        *found,
        _knob(HOURS_LATE, "receipts", (1.0, 4.0), hours)._replace(shown=_latest),
        Fault("receipts after the step's time", "receipts", (1.0, 4.0), late, in_time),
        Fault("receipts malformed", "forger", (0.1, 0.2), _malformed, _nothing),
        Fault("receipts for unknown ids", "forger", (0.1, 0.2), _unknown, _nothing),
    ]


def _latest(stage: Stage) -> int:
    """When the latest receipt is to come that is hours late; 0 when there is none."""
    last_ms: int = stage.stats()["last_ms"] or 0
    return last_ms if last_ms > stage.clocks.true_ms() + SOON_MS else 0


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
