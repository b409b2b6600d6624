"""A world for faults that last minutes: one ingress, two dispatchers, and for each kind of fault a
company of its own for Viber and SMS, so that all kinds are at work at once.

A company is a simulator, a process with a durable book; `well` has no fault and stands in for the
others. It configures, starts, faults, heals and changes them; what must not end and did is a
BenchFailed at the next look.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import redis

from bench.chaos.audience import CATEGORIES, caps_text
from bench.processes import Child, free_port
from bench.redis_server import RedisServer
from bench.stack import Stack
from bench.waiting import until

KINDS = ("paused", "refused", "5xx", "slow", "silent")
WELL = "well"
COMPANIES = (*KINDS, WELL)
LAST = "-last"  # a route whose only step is the company's SMS
NO_CREDIT = 12  # the company's status id
HOUR_MS = 3_600_000
RENAMED = "sms-silent"  # while its receipts are held back
NEW_NAME = "sms-renamed"
# Of each provider; the second once it is changed. What waited goes in whole requests at such rates,
# and leaves the machine to the others; at 50/s each message would be a request of its own.
RATE, NEW_RATE = 5_000, 4_000
COSTS = {"viber": ("delivered", "0.0100,0.0125"), "sms": ("sent", "0.0400,0.0500")}
KNOBS: dict[str, object] = {
    "viber_delivered": 1.0, "viber_undelivered": 0.0, "sms_delivered": 1.0, "sms_undelivered": 0.0,
    "seen_share": 0.2, "push_retries": 20, "push_retry_scale": 0.01, "push_timeout_ms": 5_000,
}  # fmt: skip


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The configured times in seconds, from which every bound follows; `wait_s` is that of the
    first of two steps, by category. A step that is the last may take its message's `ttl_s`."""

    wait_s: dict[str, int]
    ttl_s: dict[str, int]
    grace_s: int = 5
    timeout_s: int = 10
    lease_s: int = 10


LONG = Terms(
    wait_s={"otp": 60, "transactional": 120, "marketing": 1_800},
    ttl_s={"otp": 300, "transactional": 3_600, "marketing": 3_600},
)
SHORT = Terms(
    wait_s={"otp": 6, "transactional": 12, "marketing": 180},
    ttl_s={"otp": 30, "transactional": 180, "marketing": 360},
    grace_s=1,
    timeout_s=2,
)


class Company:
    """One simulator, and what is wrong with it by its kind."""

    def __init__(self, world: LongWorld, kind: str) -> None:
        self.kind = kind
        self._world = world
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def launch(self) -> Child:
        """Starts it on its book; `await_ready` tells when it serves."""
        world = self._world
        words = ["simulate", "--port", str(self._port), "--seed", str(world.seed)]
        words += ["--viber-share", "1.0", "--book", str(world.folder / f"{self.kind}.book")]
        for name, value in KNOBS.items():
            words += ["--knob", f"{name}={value}"]
        self.child = world.launch_role(f"simulator-{self.kind}", world.config, words)
        return self.child

    def begin(self) -> None:
        """Its fault begins."""
        timeout_ms = 1_000 * self._world.terms.timeout_s
        knobs: dict[str, dict[str, object]] = {
            "paused": {"reject_share": 1.0, "reject_status": NO_CREDIT},
            "5xx": {"outage": "unavailable"},
            "slow": {"answer_ms_min": 2 * timeout_ms, "answer_ms_max": 4 * timeout_ms},
            "silent": {"late_share": 1.0, "late_ms": HOUR_MS},
        }
        if self.kind == "refused":  # nobody listens
            self.child.process.kill()
            self.child.process.wait()
        else:
            self._turn(knobs[self.kind])

    def end(self) -> None:
        """It is well again; what it owes comes at once."""
        usual: dict[str, dict[str, object]] = {
            "paused": {"reject_share": 0.0},
            "5xx": {"outage": "none"},
            "slow": {"answer_ms_min": 2, "answer_ms_max": 20},
            "silent": {"late_share": 0.0},
        }
        if self.kind == "refused":
            self.launch().await_ready()
        else:
            self._turn(usual[self.kind])
        if self.kind == "silent":
            self._world.ask(f"{self.url}/_sim/flush?all=1", method="POST", body=b"")

    def _turn(self, knobs: dict[str, object]) -> None:
        body = msgspec.json.encode(knobs)
        self._world.ask(f"{self.url}/_sim/knobs", method="PUT", body=body)

    def billed(self) -> dict[str, Any]:
        lines: dict[str, Any] = self._world.ask(f"{self.url}/_sim/bill?full=1")["messages"]
        return lines

    def waits(self) -> int:
        """How much is still to come of it."""
        stats = self._world.ask(f"{self.url}/_sim/stats")
        waiting: int = stats["pending"] + stats["reports_waiting"]
        return waiting


class LongWorld(Stack):
    """Roles are named i0, d0 and d1."""

    def __init__(self, folder: Path, terms: Terms, seed: int) -> None:
        super().__init__(folder)
        self.terms, self.seed = terms, seed
        self.config = folder / "kaskad.toml"
        self.companies = {kind: Company(self, kind) for kind in COMPANIES}
        self.ports = {"i0": free_port()}
        self.roles: dict[str, Child] = {}
        self.unexpected: list[str] = []

    def start(self) -> None:
        self.folder.mkdir(parents=True)
        self._write()
        self._server = RedisServer(self.folder / "redis", self.env)
        self._server.await_ready()
        self.redis = redis.Redis(unix_socket_path=str(self._server.socket), socket_timeout=10)
        waiting = [company.launch() for company in self.companies.values()]
        waiting += [self._launch(name) for name in ("d0", "d1", "i0")]
        for child in waiting:
            child.await_ready()

    def _launch(self, name: str) -> Child:
        words = ["serve"] if name in self.ports else ["dispatch"]
        own = {"KASKAD_REDIS_URL": self._server.url, "BENCH_NEW_TOKEN": "bench-new-token"}
        self.roles[name] = self.launch_role(name, self.config, words, own)
        return self.roles[name]

    def check(self) -> None:
        for child in self.roles.values():
            child.check()

    def stop(self) -> None:
        simulators = (getattr(each, "child", None) for each in self.companies.values())
        children = [*self.roles.values(), *(each for each in simulators if each is not None)]
        for child in children:
            child.process.terminate()
        for child in [*children, *filter(None, [getattr(self, "_server", None)])]:
            child.stop()

    # --- changes while it works ---

    def change_rate(self) -> None:
        """SIGHUP with another rate; returns when every role has taken it over."""
        self._write(rate=NEW_RATE)
        before = self._taken_over()
        for child in self.roles.values():
            child.process.send_signal(1)
        until("a change is taken over", lambda: self._taken_over() - before >= len(self.roles))

    def rename_and_rotate(self) -> None:
        """A provider gets another name and every callback another proof; the roles are started
        again, one after the other, and first those that must know the name before it is used."""
        self._write(rate=NEW_RATE, renamed=True)
        for name, child in sorted(self.roles.items()):
            child.stop()
            if child.process.returncode != 0:
                self.unexpected.append(f"{name} ended with {child.process.returncode}")
            self._launch(name).await_ready()

    def _taken_over(self) -> int:
        return sum(path.read_text().count('"configuration_taken_over"') for path in self.logs)

    def _write(self, **changes: Any) -> None:
        urls = {kind: company.url for kind, company in self.companies.items()}
        self.config.write_text(config_text(self.terms, self.ports["i0"], urls, **changes))
        rows = [
            f"{name},,,{COSTS[channel][1]},EUR,2020-01-01\n"
            for name, channel, _ in (*_providers(renamed=False), (NEW_NAME, "sms", ""))
        ]
        head = "provider,prefix,category,cost,sell,currency,valid_from\n"
        (self.folder / "prices.csv").write_text(head + "".join(rows))

    # --- asking ---

    def billed(self) -> dict[str, Any]:
        """Every message on the companies' bills, by reference."""
        every = (company.billed().items() for company in self.companies.values())
        return dict(itertools.chain.from_iterable(every))

    def command(self, *words: str) -> Any:
        """What a `kaskad` command says with --json. Raises BenchFailed."""
        return self.told_by(self.config, self._server.url, *words)

    def to_come(self) -> int:
        """How much is still to come of all companies."""
        return sum(company.waits() for company in self.companies.values())

    def faults(self) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
        """Kind, beginning and end of each fault."""
        for kind in KINDS:
            yield kind, self.companies[kind].begin, self.companies[kind].end


def _providers(*, renamed: bool) -> Iterator[tuple[str, str, str]]:
    """Name, channel and company of each."""
    for kind, channel in itertools.product(COMPANIES, COSTS):
        name = f"{channel}-{kind}"
        yield (NEW_NAME if renamed and name == RENAMED else name), channel, kind


def config_text(
    terms: Terms, port: int, urls: dict[str, str], *, rate: int = RATE, renamed: bool = False
) -> str:
    """The configuration. `renamed`: a provider has another name, every callback another proof."""
    tokens = '["BENCH_NEW_TOKEN", "BENCH_CALLBACK_TOKEN"]' if renamed else '"BENCH_CALLBACK_TOKEN"'
    text = (
        f'[server]\nport = {port}\npublic_url = "http://127.0.0.1:{port}"\nstop_within = "10s"\n\n'
        '[redis]\ndata_dir = "never"\n\n[[apps]]\nname = "bench"\nkey_env = "BENCH_APP_KEY"\n\n'
    )
    for name, channel, kind in _providers(renamed=renamed):
        text += (
            f'[providers.{name}]\nkind = "infobip-{channel}"\nbase_url = "{urls[kind]}"\n'
            f'sender = "Bench"\nrate = "{rate}/s"\nbatch = 50\ntimeout = "{terms.timeout_s}s"\n'
            f'charged_on = "{COSTS[channel][0]}"\napi_key_env = "BENCH_PROVIDER_KEY"\n'
            f"callback_token_env = {tokens}\n"
        )
        text += f'was = ["{RENAMED}"]\n\n' if name == NEW_NAME else "\n"
    categories = sorted(set(CATEGORIES))
    names = {kind: name for name, channel, kind in _providers(renamed=renamed) if channel == "sms"}
    for kind, category in itertools.product(COMPANIES, categories):
        last = f'wait = "{terms.ttl_s[category]}s", grace = "{terms.grace_s}s" }}'
        first = f'wait = "{terms.wait_s[category]}s", grace = "{terms.grace_s}s" }}'
        text += (
            f"[routes.{kind}-{category}]\nsteps = [\n"
            f'  {{ provider = "viber-{kind}", {first},\n'
            f'  {{ provider = "{names[WELL]}", {last},\n]\n\n'
            f"[routes.{kind}{LAST}-{category}]\n"
            f'steps = [{{ provider = "{names[kind]}", {last}]\n\n'
        )
    for category in categories:
        text += (
            f'[categories.{category}]\nroute = "{WELL}-{category}"\n'
            f'ttl = "{terms.ttl_s[category]}s"\n\n'
        )
    text += caps_text()
    return (
        f'{text}[prices]\nfile = "prices.csv"\n\n'
        f'[lanes]\nlease = "{terms.lease_s}s"\nheartbeat = "1s"\nstop_within = "5s"\n'
    )
