"""Everything a storm rages over, as real processes: Redis, provider, two ingress, two dispatchers,
and a proxy on every way between them.

It configures, starts, kills and replaces them; Redis is `redis_nodes`' work, the machines' clocks
are those of `clocks`. A machine has an ingress and a dispatcher; the clock of the second is
`skew_ms` ahead. The provider has a durable book. This process must stay single-threaded: children
are started from it at any time.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, Self

import msgspec

from bench.chaos import budget
from bench.chaos.audience import CATEGORIES, SESSION, WIDE, caps_text
from bench.chaos.clocks import Clocks
from bench.chaos.redis_nodes import RedisNodes
from bench.processes import Child, free_port
from bench.stack import (
    CALLBACK_TOKEN,
    FCM,
    PRICES,
    SMPP,
    SMS,
    SMTP,
    VIBER,
    Stack,
    fcm_text,
    providers_text,
    service_account,
    smpp_text,
    smtp_text,
)

KNOBS: dict[str, Any] = {
    "push_share": 0.5,
    "email_delivered": 0.6,
    "email_undelivered": 0.3,
    "viber_delivered": 0.85,
    "viber_undelivered": 0.1,
    "seen_share": 0.4,
    "expiry_ms": 1_500,
    "push_retries": 20,
    "push_retry_scale": 0.002,
    "push_timeout_ms": 2_000,
}
START_S = 30.0
# In what a role says before it serves.
STARTING = ('"event":"starting"', '"event":"start_check"')
HOUR_MS = 3_600_000
BINDS, WINDOW = 2, 20  # of the SMSC: one bind a machine
CALLBACK_S = 1.0  # the storm goes on meanwhile, so no answer is an answer too


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`wait_s` is how long each step may take, `react_s` how long after it a person; `rate` is the
    provider's limit, messages/s. A send window opens after `opens_s` and up to a minute; 0: it is
    open."""

    wait_s: int = 8
    react_s: int = 2
    opens_s: int = 0
    rate: int = 5_000
    skew_ms: int = 0
    machines: int = 2
    seed: int = 1
    viber_share: float = 0.7
    budget: int = 0  # limit of the budget that runs out, in 1e-6; 0: there is none
    beside: str = ""  # the Python of another version, which the second machine's roles are of


class Stage(Stack):
    """Roles are named i0, i1, d0 and d1."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        super().__init__(folder)
        self.plan = plan
        self.draw = random.Random(f"storm {plan.seed}")
        self.roles: dict[str, Child] = {}
        self.machines = range(plan.machines)
        self.ports = {f"i{number}": free_port() for number in self.machines}
        self.smpp_port, self.smtp_port = free_port(), free_port()
        self.unexpected: list[str] = []  # processes that ended by themselves
        self.killed: list[Path] = []  # the logs of the roles that were killed
        self.down: set[str] = set()  # what must not be started again yet
        self._knobs: dict[str, Any] = dict(KNOBS)  # as they were turned last
        self.full_disks = 0  # how often Redis has met one
        self._stats: dict[str, Any] = {}
        # How requests to simulators that were killed ended.
        self._outcomes: list[tuple[str, dict[str, int]]] = []

    def __enter__(self) -> Self:
        (self.folder / "redis").mkdir(parents=True)
        self.clocks = Clocks(self.folder, [self.plan.skew_ms * n for n in self.machines])
        self.nodes = RedisNodes(self.folder / "redis", self.env)
        self.redis = self.nodes.client
        return super().__enter__()

    def start(self) -> None:
        (self.folder / "prices.csv").write_text(PRICES)
        self.nodes.begin()
        here = "127.0.0.1"
        names = [f"{role}{number}" for number in self.machines for role in "id"]
        ways = {f"redis-{name}": [f"unix:{self.nodes.socket}"] for name in names}
        doors = {"provider": self.provider_port, "token": self.provider_port}
        doors |= {"smpp": self.smpp_port, "smtp": self.smtp_port}
        ways |= {
            f"{name}-d{number}": [f"{here}:{port}"]
            for number in self.machines
            for name, port in doors.items()
        }
        ways["callbacks"] = [f"{here}:{port}" for port in self.ports.values()]
        self._proxy = subprocess.Popen(
            [sys.executable, "-m", "bench.chaos.proxy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.env,
        )
        assert self._proxy.stdin is not None
        assert self._proxy.stdout is not None
        self._proxy.stdin.write(json.dumps(ways) + "\n")
        self._proxy.stdin.flush()
        self._ways: dict[str, int] = json.loads(self._proxy.stdout.readline())
        self.opens_ms = _next_minute_ms(self.clocks.true_ms() + 1_000 * self.plan.opens_s)
        if not self.plan.opens_s:
            self.opens_ms -= HOUR_MS
        for number in self.machines:
            doors = {name: self._ways[f"{name}-d{number}"] for name in doors}
            account = self.folder / f"account-d{number}.json"
            account.write_text(service_account(f"http://{here}:{doors['token']}"))
            providers = _providers_text(self.plan, doors, account.name)
            text = config_text(self.plan, self._ways["callbacks"], providers, self.opens_ms)
            self._config(number).write_text(text)
        self._simulator = self._launch_simulator()
        waiting = [self._simulator, *(self.launch(name) for name in names)]
        for child in waiting:
            child.await_ready()

    # --- processes ---

    def launch(self, name: str, **env: str) -> Child:
        """Starts a role, or its successor; `await_ready` tells when it serves."""
        serves = name in self.ports
        words = ["serve", "--port", str(self.ports[name])] if serves else ["dispatch"]
        own = {"KASKAD_REDIS_URL": f"redis://127.0.0.1:{self._ways[f'redis-{name}']}/0"}
        own |= self.clocks.environment(int(name[1])) | env
        python = self.plan.beside if name[1] == "1" else ""
        self.roles[name] = self.launch_role(name, self._config(name[1]), words, own, python)
        return self.roles[name]

    def _config(self, machine: object) -> Path:
        return self.folder / f"d{machine}.toml"

    def _launch_simulator(self) -> Child:
        """With the knobs as they were turned last: they are its operator's, not in its book."""
        plan = self.plan
        more = ["--book", str(self.folder / "provider.book")]
        more += ["--smpp-port", str(self.smpp_port), "--smtp-port", str(self.smtp_port)]
        config = self._config(0)
        return self.launch_simulator(config, plan.seed, plan.viber_share, self._knobs, *more)

    @property
    def provider_runs(self) -> bool:
        return self._simulator.process.poll() is None

    def kill_simulator(self) -> None:
        """kill -9; what it knows is in its book."""
        self._outcomes += self._outcomes_now()
        self._simulator.process.kill()
        self._simulator.process.wait(START_S)

    def start_simulator(self) -> None:
        """Starts it on its book; returns when it serves."""
        self._simulator = self._launch_simulator()
        self._simulator.await_ready()

    def kill(self, name: str) -> None:
        """kill -9; it stays dead until `revive`."""
        self.down.add(name)
        child = self.roles[name]
        self.killed.append(child.log)
        child.process.send_signal(signal.SIGCONT)
        child.process.kill()
        child.process.wait(START_S)

    def end_ingress(self) -> None:
        """Asks them to end: what they have taken is recorded then."""
        for name in self.ports:
            self.down.add(name)
            self.roles[name].process.terminate()
        for name in self.ports:
            self.roles[name].process.wait(START_S)

    def revive(self, name: str) -> None:
        """It may run again, from the next `tend` on."""
        self.down.discard(name)
        self.tend()

    def tend(self) -> None:
        """Starts again whatever should run and does not, as an operator's supervisor would: also a
        role that found no Redis when it started."""
        if "redis" not in self.down and not self.nodes.runs:
            self.nodes.start()
        self.nodes.tend()
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
        """Killed, stopped in order, stopped before it served, or it found no Redis at its start:
        then its only words are a sentence about that."""
        if code in (0, -signal.SIGKILL):
            return True
        said = child.log.read_text(errors="replace")
        if code == -signal.SIGTERM:
            return all(any(event in line for event in STARTING) for line in said.splitlines())
        return said.startswith("Redis ")

    def kill_redis(self) -> None:
        self.down.add("redis")
        self.nodes.kill()

    def proxy(self, name: str, mode: str, **more: object) -> None:
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
        simulator = getattr(self, "_simulator", None)
        if simulator is not None:
            simulator.stop()
        self.nodes.stop()
        proxy = getattr(self, "_proxy", None)
        if proxy is not None:
            proxy.communicate()
        self.clocks.close()

    # --- asking ---

    def command(self, *words: str) -> Any:
        """What a `kaskad` command says with --json. Raises BenchFailed."""
        return self.told_by(self._config(0), f"unix://{self.nodes.socket}", *words)

    def stats(self) -> dict[str, Any]:
        """The provider's; while it is dead, the last that was heard of it."""
        if self.provider_runs:
            self._stats = super().stats()
        return self._stats

    def turn(self, **knobs: object) -> None:
        """Changes knobs of the simulator; of one that is down, from its next start on."""
        self._knobs |= knobs
        if self.provider_runs:
            super().turn(**knobs)

    def bring_reports(self) -> None:
        """The provider sends every receipt that is still to come, however late it was to be."""
        self.ask(f"{self.provider_url}/_sim/flush?all=1", method="POST", body=b"")

    def outcomes(self, what: str = "POST ") -> Counter[str]:
        """How the requests that begin so ended so far, by the provider's own count."""
        found: Counter[str] = Counter()
        for asked, outcomes in (*self._outcomes, *self._outcomes_now()):
            if asked.startswith(what):
                found.update(outcomes)
        return found

    def _outcomes_now(self) -> list[tuple[str, dict[str, int]]]:
        return list(self.stats()["requests"].items()) if self.provider_runs else []

    def callback(self, provider: str, body: bytes) -> int:
        """Posts a callback as the provider would; the status, 0 when there was no answer."""
        url = f"http://127.0.0.1:{self._ways['callbacks']}/v1/callbacks/{provider}?token={CALLBACK_TOKEN}"
        request = urllib.request.Request(url, data=body, method="POST")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=CALLBACK_S) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as answer:
            return int(answer.code)
        except OSError:
            return 0


def _next_minute_ms(at_ms: int) -> int:
    return -(-at_ms // 60_000) * 60_000


def _clock(at_ms: int) -> str:
    return time.strftime("%H:%M", time.gmtime(at_ms / 1_000))


def _providers_text(plan: Plan, doors: dict[str, int], account: str) -> str:
    """All providers at one machine's doors, its ports by their names."""
    more = 'timeout = "2s"\nattempts_max = 5\nretry_delay = "200ms"'
    http = f"http://127.0.0.1:{doors['provider']}"
    events = 'events = "postmark"\ncallback_token_env = "BENCH_CALLBACK_TOKEN"'
    session = f'binds = {BINDS}\nwindow = {WINDOW}\nresponse_timeout = "2s"\nenquire_link = "1s"'
    return (
        providers_text(http, plan.rate, 50, more)
        + smpp_text(doors["smpp"], plan.rate, f"{more}\n{session}")
        + smtp_text(doors["smtp"], plan.rate, f"{more}\n{events}")
        + fcm_text(http, plan.rate, more, account)
    )


def config_text(plan: Plan, callbacks: int, providers: str, opens_ms: int) -> str:
    """One machine's configuration; Redis' address is in its environment."""
    viber, sms, smpp, mail, push = (
        f'provider = "{name}", wait = "{plan.wait_s}s", grace = "500ms"'
        for name in (VIBER, SMS, SMPP, SMTP, FCM)
    )
    plain = f"steps = [{{ {viber} }}, {{ {sms} }}]"
    seen = f'{{ {viber}, until = "seen", react = "{plan.react_s}s" }}'
    routes = (
        f"[routes.usual]\n{plain}\n\n"
        f'[routes.best]\norder = "best"\n{plain}\n\n'
        f'[routes.reach]\nsteps = [{seen}, {{ {sms}, importance = "normal" }}]\n\n'
    )
    wires = {SESSION: (smpp, sms), WIDE: (push, mail, smpp)}
    for (name, steps), category in itertools.product(wires.items(), sorted(set(CATEGORIES))):
        each = ", ".join(f"{{ {step} }}" for step in steps)
        routes += f"[routes.{name}-{category}]\nsteps = [{each}]\n\n"
    categories = "".join(
        f'[categories.{name}]\nroute = "{route}"\nttl = "10m"\n{more}\n'
        for name, route, more in (
            ("otp", "usual", "resend_unknown = true\n"),
            ("transactional", "best", ""),
            ("marketing", "reach", ""),
        )
    )
    window = f'from = "{_clock(opens_ms)}"\nto = "{_clock(opens_ms + 12 * HOUR_MS)}"\nzone = "UTC"'
    return (
        f'[server]\npublic_url = "http://127.0.0.1:{callbacks}"\nstop_within = "10s"\n\n'
        '[redis]\ndata_dir = "never"\n\n'
        '[[apps]]\nname = "bench"\nkey_env = "BENCH_APP_KEY"\n'
        'scopes = ["send", "read", "report", "manage"]\n\n'
        f"{providers}{routes}{categories}[send_windows.opens]\n{window}\n\n{caps_text()}"
        f"{budget.config_text(plan.budget)}"
        # A text's answer may be recorded 15 s late: it waits for parts of others, sent again.
        '[prices]\nfile = "prices.csv"\n\n[retention]\nparked_receipts = "20s"\n\n'
        '[lanes]\nlease = "2s"\nheartbeat = "500ms"\nstop_within = "5s"\n'
    )
