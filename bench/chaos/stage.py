"""Everything a storm rages over, as real processes: Redis, provider, two ingress, two dispatchers,
and a proxy on every way between them.

Owns their configuration, start, death and replacement. Redis runs on its append-only file with
fsync on every write, so what was answered is on the disk. The second machine (one ingress, one
dispatcher) has a clock that is `skew_ms` ahead. This process must stay single-threaded: children
are started from it at any time.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import redis

from bench.processes import BenchFailed, Child, free_port, role
from bench.redis_server import find_binary

APP_KEY = "chaos-key-0123456789abcdef"
PROVIDER_KEY = "chaos-provider-key"
TOKEN = "chaos-callback-token"  # noqa: S105 - of this run on the loopback only
VIBER, SMS = "chaos-viber", "chaos-sms"
PRICES = f"""provider,prefix,category,cost,sell,currency,valid_from
{VIBER},,,0.0100,0.0125,EUR,2020-01-01
{SMS},,,0.0400,0.0500,EUR,2020-01-01
"""
KNOBS: dict[str, Any] = {
    "viber_delivered": 0.85,
    "viber_undelivered": 0.1,
    "seen_share": 0.2,
    "expiry_ms": 1_500,
    "push_retries": 20,
    "push_retry_scale": 0.002,
    "push_timeout_ms": 2_000,
}
START_S = 30.0
POLL_S = 0.02
CALLBACK_S = 1.0  # the storm goes on meanwhile, so no answer is an answer too
SKEWED = Path(__file__).resolve().parent / "skewed_clock"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`wait_s` is how long each step may take; `rate` is the provider's limit, messages/s."""

    wait_s: int = 8
    rate: int = 5_000
    skew_ms: int = 0
    machines: int = 2
    seed: int = 1
    viber_share: float = 0.7


class Stage:
    """A context manager that ends what it started. Roles are named i0, i1, d0 and d1."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self.draw = random.Random(f"storm {plan.seed}")
        self.roles: dict[str, Child] = {}
        self.machines = range(plan.machines)
        self.ports = {f"i{number}": free_port() for number in self.machines}
        self.socket = folder / "redis" / "redis.sock"
        self.redis = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=10)
        self.logs: list[Path] = []
        self.unexpected: list[str] = []  # processes that ended by themselves
        self.down: set[str] = set()  # what must not be started again yet
        self._redis: Child | None = None
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("KASKAD_")} | {
            "CHAOS_APP_KEY": APP_KEY,
            "CHAOS_PROVIDER_KEY": PROVIDER_KEY,
            "CHAOS_CALLBACK_TOKEN": TOKEN,
            "KASKAD_LOG_FORMAT": "json",
        }

    def __enter__(self) -> Self:
        (self.folder / "redis").mkdir(parents=True)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        (self.folder / "prices.csv").write_text(PRICES)
        self.start_redis()
        provider = free_port()
        self.provider_url = f"http://127.0.0.1:{provider}"
        here = "127.0.0.1"
        names = [f"{role}{number}" for number in self.machines for role in "id"]
        ways = {f"redis-{name}": [f"unix:{self.socket}"] for name in names}
        ways |= {f"provider-d{number}": [f"{here}:{provider}"] for number in self.machines}
        ways["callbacks"] = [f"{here}:{port}" for port in self.ports.values()]
        self._proxy = subprocess.Popen(
            [sys.executable, "-m", "bench.chaos.proxy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._env,
        )
        assert self._proxy.stdin is not None
        assert self._proxy.stdout is not None
        self._proxy.stdin.write(json.dumps(ways) + "\n")
        self._proxy.stdin.flush()
        self._ways: dict[str, int] = json.loads(self._proxy.stdout.readline())
        for name in (f"d{number}" for number in self.machines):
            text = config_text(self.plan, self._ways["callbacks"], self._ways[f"provider-{name}"])
            (self.folder / f"{name}.toml").write_text(text)
        options = ["--port", str(provider), "--seed", str(self.plan.seed)]
        options += ["--viber-share", str(self.plan.viber_share)]
        for knob, value in KNOBS.items():
            options += ["--knob", f"{knob}={json.dumps(value)}"]
        self._simulator = self._child("simulator", "d0", ["simulate", *options])
        waiting = [self._simulator, *(self.launch(name) for name in names)]
        for child in waiting:
            child.await_ready()

    # --- processes ---

    def launch(self, name: str, **env: str) -> Child:
        """Starts a role, or its successor; `await_ready` tells when it serves."""
        serves = name in self.ports
        words = ["serve", "--port", str(self.ports[name])] if serves else ["dispatch"]
        self.roles[name] = self._child(name, name, words, **env)
        return self.roles[name]

    def _child(self, name: str, machine: str, words: list[str], **env: str) -> Child:
        log = self.folder / f"{len(self.logs)}-{name}.log"
        self.logs.append(log)
        config = self.folder / f"d{machine[1]}.toml"
        own = self._env | env
        if f"redis-{machine}" in self._ways and name != "simulator":
            own["KASKAD_REDIS_URL"] = f"redis://127.0.0.1:{self._ways[f'redis-{machine}']}/0"
        if machine.endswith("1") and self.plan.skew_ms:
            own |= {"PYTHONPATH": str(SKEWED), "CHAOS_CLOCK_OFFSET_MS": str(self.plan.skew_ms)}
        command = role([words[0], "--config", str(config), *words[1:]])
        return Child(f"kaskad {name}", command, log, own, announces=True)

    def kill(self, name: str) -> None:
        """kill -9; it stays dead until `revive`."""
        self.down.add(name)
        child = self.roles[name]
        child.process.send_signal(signal.SIGCONT)
        child.process.kill()
        child.process.wait(START_S)

    def revive(self, name: str) -> None:
        """It may run again, from the next `tend` on."""
        self.down.discard(name)
        self.tend()

    def tend(self) -> None:
        """Starts again whatever should run and does not, as an operator's supervisor would: also a
        role that found no Redis when it started."""
        if "redis" not in self.down and not self.redis_runs:
            self.start_redis()
        for name, child in list(self.roles.items()):
            code = child.process.poll()
            if name in self.down or code is None:
                continue
            child.stop()
            if not self.ended_well(child, code):
                self.unexpected.append(f"{name} ended with {code}: {child.log.name}")
            self.launch(name)

    def heal(self) -> None:
        """Ends every fault of a process; returns when all of them run."""
        self.down.clear()
        self.tend()

    @staticmethod
    def ended_well(child: Child, code: int) -> bool:
        """Killed, stopped in order, stopped before it had begun, or it found no Redis at its start:
        then its only words are a sentence about that."""
        if code in (0, -signal.SIGKILL):
            return True
        said = child.log.read_text(errors="replace")
        return said == "" if code == -signal.SIGTERM else said.startswith("Redis ")

    def start_redis(self) -> None:
        """Starts Redis on whatever its files hold; returns when it serves."""
        folder = self.folder / "redis"
        binary, self.redis_version = find_binary()
        config = folder / "redis.conf"
        config.write_text(
            f"port 0\nunixsocket {self.socket}\nunixsocketperm 700\ndir {folder}\ndaemonize no\n"
            'appendonly yes\nappendfsync always\nsave ""\nmaxmemory-policy noeviction\n'
            "aof-load-truncated yes\n"
            # From version 7 on DEBUG SLEEP must be allowed.
            + ("enable-debug-command local\n" if int(self.redis_version.split(".")[0]) > 6 else "")
        )
        log = self.folder / f"redis-{time.monotonic_ns()}.log"
        self._redis = Child("Redis", [str(binary), str(config)], log, self._env)
        until("Redis serves", self._redis_serves, START_S)

    def _redis_serves(self) -> bool:
        try:
            return bool(self.redis.ping())
        except redis.RedisError:
            return False

    def kill_redis(self) -> None:
        assert self._redis is not None
        self.down.add("redis")
        self._redis.process.kill()
        self._redis.process.wait(START_S)

    def fill_disk(self, room: int) -> None:
        """Redis may write `room` more bytes to its file, and then gets the error of a full disk."""
        assert self._redis is not None
        files = [*(self.folder / "redis").rglob("*.aof")]  # Redis 7 and later have a folder of them
        size = max(files, key=lambda file: file.stat().st_mtime_ns).stat().st_size
        hard = resource.prlimit(self._redis.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self._redis.pid, resource.RLIMIT_FSIZE, (size + room, hard))

    @property
    def redis_runs(self) -> bool:
        return self._redis is not None and self._redis.process.poll() is None

    def proxy(self, name: str, mode: str, **more: int) -> None:
        """Sets the mode of every way whose name begins with `name`."""
        assert self._proxy.stdin is not None
        self._proxy.stdin.write(json.dumps({"name": name, "mode": mode, **more}) + "\n")
        self._proxy.stdin.flush()

    def stop(self) -> None:
        """Ends all of it, without ceremony."""
        for child in self.roles.values():
            child.process.send_signal(signal.SIGCONT)
            child.process.terminate()
        for child in self.roles.values():
            child.stop()
        self.roles.clear()
        for name in ("_simulator", "_redis"):
            child = getattr(self, name, None)
            if child is not None:
                child.stop()
        proxy = getattr(self, "_proxy", None)
        if proxy is not None:
            proxy.communicate()
        self.redis.close()

    # --- asking ---

    def command(self, *words: str) -> Any:
        """What a `kaskad` command says with --json. Raises BenchFailed."""
        config = ["--config", str(self.folder / "d0.toml")]
        done = subprocess.run(
            role([*words, *config]),
            env=self._env | {"KASKAD_REDIS_URL": f"unix://{self.socket}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise BenchFailed(f"kaskad {' '.join(words)}: {done.stderr.strip()}") from None

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = fetch(f"{self.provider_url}/_sim/stats")
        return found

    def turn(self, **knobs: Any) -> None:
        """Changes knobs of the simulator."""
        fetch(f"{self.provider_url}/_sim/knobs", json.dumps(knobs).encode(), "PUT")

    def bill(self) -> dict[str, Any]:
        found: dict[str, Any] = fetch(f"{self.provider_url}/_sim/bill?full=1")
        return found

    def callback(self, provider: str, body: bytes) -> int:
        """Posts a callback as the provider would; the status, 0 when there was no answer."""
        url = f"http://127.0.0.1:{self._ways['callbacks']}/v1/callbacks/{provider}?token={TOKEN}"
        request = urllib.request.Request(url, data=body, method="POST")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=CALLBACK_S) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as answer:
            return int(answer.code)
        except OSError:
            return 0


def fetch(url: str, body: bytes | None = None, method: str = "GET") -> Any:
    request = urllib.request.Request(url, data=body, method=method)  # noqa: S310 - ours
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.loads(answer.read())


def until(what: str, look: Callable[[], bool], within_s: float) -> None:
    """Polls until `look` is true. Raises BenchFailed at the deadline."""
    deadline = time.monotonic() + within_s
    while not look():
        if time.monotonic() > deadline:
            raise BenchFailed(f"Not within {within_s:.0f} s: {what}.")
        time.sleep(POLL_S)


def config_text(plan: Plan, callbacks: int, provider: int) -> str:
    """One machine's configuration; Redis' address is in its environment."""
    providers = "".join(
        f'[providers.{name}]\nkind = "infobip-{channel}"\n'
        f'base_url = "http://127.0.0.1:{provider}"\napi_key_env = "CHAOS_PROVIDER_KEY"\n'
        f'sender = "Chaos"\nrate = "{plan.rate}/s"\nbatch = 50\ntimeout = "2s"\n'
        'attempts_max = 5\nretry_delay = "200ms"\ncallback_token_env = "CHAOS_CALLBACK_TOKEN"\n'
        f'charged_on = "{charged_on}"\n\n'
        for name, channel, charged_on in ((VIBER, "viber", "delivered"), (SMS, "sms", "sent"))
    )
    steps = ", ".join(
        f'{{ provider = "{name}", wait = "{plan.wait_s}s", grace = "500ms" }}'
        for name in (VIBER, SMS)
    )
    categories = "".join(
        f'[categories.{name}]\nroute = "usual"\nttl = "10m"\n{more}\n'
        for name, more in (("otp", "resend_unknown = true\n"), ("transactional", ""))
    )
    return (
        f'[server]\npublic_url = "http://127.0.0.1:{callbacks}"\nstop_within = "10s"\n\n'
        '[redis]\ndata_dir = "never"\n\n'
        '[[apps]]\nname = "chaos"\nkey_env = "CHAOS_APP_KEY"\n\n'
        f"{providers}[routes.usual]\nsteps = [{steps}]\n\n"
        f'{categories}[categories.marketing]\nroute = "usual"\nttl = "10m"\n\n'
        '[[caps]]\nname = "one-marketing-a-day"\ncategory = "marketing"\nlimit = 1\n'
        'window = "1d"\n\n'
        '[[caps]]\nname = "two-codes-an-hour"\ncategory = "otp"\nlimit = 2\nwindow = "1h"\n\n'
        '[prices]\nfile = "prices.csv"\n\n[retention]\nparked_receipts = "10s"\n\n'
        '[lanes]\nlease = "2s"\nheartbeat = "500ms"\nstop_within = "5s"\n'
    )
