"""Faults that last minutes, for real: each kind 2 to 5 minutes, all of them side by side.

    python -m bench.chaos.long_faults SEED long|short FILE     a child of `make chaos`: it tells how
                                                               far it is, and writes its outcome

A steady load of codes, payments and campaign messages goes over every company. Meanwhile each kind
of fault comes and goes, and the configuration changes (a rate by SIGHUP; a provider renamed and all
proofs rotated, by a restart). Once nothing is left to happen the books are audited as after a
storm, and how long each message took to reach a person is held against its rule (`reach`). How long
each fault lasts is drawn from the seed. Little happens in these minutes, so all seeds are played
side by side.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from bench.chaos import reach, records, storm
from bench.chaos.audit import Audit
from bench.chaos.busy import BUSY_MAX, Busy
from bench.chaos.long_world import COMPANIES, KINDS, LAST, LONG, SHORT, WELL, LongWorld
from bench.chaos.reach import Group, Reached
from bench.chaos.records import STATUSES
from bench.processes import BenchFailed
from bench.waiting import POLL_S, left_over, until

LONG_S, SHORT_S = (120.0, 300.0), (10.0, 25.0)  # how long a fault lasts
# Of the load: every route meets the shortest fault, and a dispatcher finds a provider out, which
# takes five requests in a row, while half of it is still to come. At 4/s, a request of each in
# 15 s, that took 100 s. At 16/s a world took a tenth of a core, all its processes together
# (2026-11-29): three side by side leave two cores most of their time.
LONG_PER_S, SHORT_PER_S = 16.0, 20.0
LEAD_S, TAIL_S = 10.0, 10.0  # of the load, before the first fault and after the last
CHANGES_AT = (0.3, 0.5)  # of the shortest fault: the rate, then name and proofs
PROGRESS_S = 20.0
CALM_S = 1_200.0
LOOK_S = 2.0
PLAY_S_MAX = 3_600.0  # three seeds took 17 minutes


class LongOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one seed's long faults went; `changes` says how many seconds each took, `faults` empty
    that all assertions hold. `late` are the rules on time that do not hold: where the machine was
    too `busy` (the share of its time, in the busiest window) they say nothing."""

    seed: int
    seconds: float
    lasted_s: dict[str, float]
    groups: list[Group]
    changes: dict[str, float]
    counts: dict[str, int]
    faults: list[str]
    late: list[str] = []
    busy: float = 0.0

    @property
    def broken(self) -> list[str]:
        """The assertions that do not hold."""
        return self.faults if self.busy > BUSY_MAX else [*self.faults, *self.late]

    @property
    def doubtful(self) -> list[str]:
        """Those of which nobody can say whether they hold."""
        return self.late if self.busy > BUSY_MAX else []


class Course:
    """The faults and changes of one run, each at its moment."""

    def __init__(self, world: LongWorld, lasts_s: dict[str, float], tell: storm.Tell) -> None:
        self._tell = tell
        self.busy = Busy()
        self.changes: dict[str, float] = {}
        self.spans: dict[str, tuple[int, int]] = {WELL: (_now_ms(), 0)}
        self._moments: list[tuple[float, str, Callable[[], None]]] = []
        for kind, begin, end in world.faults():
            self._moments += [
                (LEAD_S, f"{kind}: begins", self._beginning(kind, begin)),
                (LEAD_S + lasts_s[kind], f"{kind}: ends", self._ending(kind, end)),
            ]
        shortest_s = min(lasts_s.values())
        for share, name, change in zip(
            CHANGES_AT,
            ("a rate, by SIGHUP", "a provider's name and all proofs, by a restart"),
            (world.change_rate, world.rename_and_rotate),
            strict=True,
        ):
            moment_s = LEAD_S + share * shortest_s
            self._moments.append((moment_s, f"changes: {name}", self._changing(name, change)))
        self._moments.sort(key=lambda moment: moment[0])

    def run(self, load_s: float, alive: Callable[[], None]) -> None:
        """Returns when the last fault has ended."""
        began = time.monotonic()
        progress_s = began
        for at_s, name, happen in self._moments:
            while (now := time.monotonic()) < began + at_s:
                alive()
                self.busy.look()
                if now >= progress_s:
                    self._tell(storm.bar((now - began) / load_s))
                    progress_s = now + PROGRESS_S
                time.sleep(POLL_S)  # until the next moment of the course, while roles are watched
            self._tell(name)
            happen()
        self.spans[WELL] = self.spans[WELL][0], _now_ms()

    def _beginning(self, kind: str, begin: Callable[[], None]) -> Callable[[], None]:
        def happen() -> None:
            self.spans[kind] = _now_ms(), 0
            begin()

        return happen

    def _ending(self, kind: str, end: Callable[[], None]) -> Callable[[], None]:
        def happen() -> None:
            end()
            self.spans[kind] = self.spans[kind][0], _now_ms()

        return happen

    def _changing(self, name: str, change: Callable[[], None]) -> Callable[[], None]:
        def happen() -> None:
            began = time.monotonic()
            change()
            self.changes[name] = round(time.monotonic() - began, 1)

        return happen


def run(seed: int, folder: Path, tell: storm.Tell, *, short: bool) -> LongOutcome:
    """Plays one seed in `folder`, which must not exist yet. Raises BenchFailed."""
    began = time.monotonic()
    terms, range_s, per_s = (SHORT, SHORT_S, SHORT_PER_S) if short else (LONG, LONG_S, LONG_PER_S)
    draw = random.Random(f"long faults {seed}")
    lasts_s = {kind: round(draw.uniform(*range_s), 1) for kind in KINDS}
    seconds = LEAD_S + max(lasts_s.values()) + TAIL_S
    load = storm.Order(
        messages=round(seconds * per_s),
        seconds=seconds,
        seed=seed,
        routes=tuple(f"{kind}{last}" for kind in COMPANIES for last in ("", LAST)),
    )
    with LongWorld(folder, terms, seed) as world:
        with storm.load(world, load) as (client, result):
            course = Course(world, lasts_s, tell)
            course.run(seconds, world.check)
            client.wait(seconds + storm.PATIENCE_S)
        if client.returncode != 0 or not result.exists():
            raise BenchFailed(f"The client ended with {client.returncode}: {world.folder}")
        tell("calm")
        left = _calm(world, course.busy)
        tell("audit")
        audit = Audit(world, json.loads(result.read_text()), storm.invalid(load), set())
        audit.run()
        groups, late = reach.grouped(list(_reached(world)), course.spans, terms)
    return LongOutcome(
        seed=seed,
        seconds=round(time.monotonic() - began, 1),
        lasted_s={
            kind: round((end - start) / 1000, 1) for kind, (start, end) in course.spans.items()
        },
        groups=groups,
        changes=course.changes,
        counts=dict(audit.counts),
        faults=[*left, *audit.faults],
        late=late,
        busy=round(course.busy.worst, 2),
    )


def _calm(world: LongWorld, busy: Busy) -> list[str]:
    """Waits until nothing is left to happen; what still is at the deadline, as faults."""

    def look() -> str:
        world.check()
        busy.look()
        left, to_come = records.left(world.redis), world.to_come()
        return f"{left} are left, of the companies {to_come}" if left or to_come else ""

    left = left_over(look, CALM_S, LOOK_S)
    busy.close()
    return [f"It never ended: {left}"] if left else []


def _reached(world: LongWorld) -> Iterator[Reached]:
    """Every message, as the companies and Redis know it."""
    first: dict[str, tuple[int, str]] = {}
    for ref, line in world.billed().items():
        if line["delivered_ms"]:
            id_, moment = ref.partition(".")[0], (line["delivered_ms"], line["channel"])
            first[id_] = min(first.get(id_, moment), moment)
    kinds = records.keys_by_kind(world.redis)
    for id_, blob in records.values(world.redis, kinds["m"]):
        message = records.message(id_, blob)
        reached_ms, channel = first.get(id_, (0, ""))
        yield Reached(
            message.route,
            message.category,
            message.created_ms,
            reached_ms,
            channel,
            STATUSES[message.status],
            message.reason,
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def play(seeds: Sequence[int], *, short: bool) -> list[LongOutcome]:
    """Plays the seeds side by side, each in a child. Raises BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="kaskad-chaos-") as folder:
        results = [Path(folder) / f"{seed}.json" for seed in seeds]
        length = "short" if short else "long"
        children = [
            subprocess.Popen([sys.executable, "-m", __name__, str(seed), length, str(result)])
            for seed, result in zip(seeds, results, strict=True)
        ]
        try:
            until("all seeds are played", lambda: _over(children), PLAY_S_MAX)
            codes = [child.returncode for child in children]
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait()
        if any(codes):
            raise BenchFailed("The long faults broke off; they said why.")
        return [msgspec.json.decode(each.read_bytes(), type=LongOutcome) for each in results]


def _over(children: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Whether all have ended, or one has broken off."""
    codes = [child.poll() for child in children]
    return None not in codes or any(codes)


def main() -> int:
    seed, short, result = int(sys.argv[1]), sys.argv[2] == "short", Path(sys.argv[3])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    def tell(what: str) -> None:
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} long faults, seed {seed}: {what}\n")
        sys.stdout.flush()

    try:
        with storm.folder_of_run() as (folder, spoil):
            outcome = run(seed, folder, tell, short=short)
            if outcome.faults or outcome.late:
                spoil()
    except BenchFailed as fault:
        sys.stderr.write(f"The long faults of seed {seed} failed: {fault}\n")
        return 1
    result.write_bytes(msgspec.json.encode(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
