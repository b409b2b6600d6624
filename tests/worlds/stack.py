"""A whole Kaskad of real processes for one test or one file, and what a stranger may ask of it.

The configuration is the contract's with short waits. A provider is the simulator, unless the
address of another is given. Nobody is asked but over HTTP and by the command line; Redis is only
started. Roles and commands are forks of `tests.worlds.template`. A process that writes a traceback,
or that does not end cleanly when told to, fails the test; after any failure all logs are printed.

Waiting on real processes is allowed here: `until` polls, with a deadline that has a name.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import selectors
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from gateway.redis.server.embedded import EmbeddedRedis
from providers import simulator
from providers.simulator import child
from providers.simulator.book import Bill
from tests.worlds import template
from tests.worlds.http_client import Answer, Client, Stream, streaming
from tests.worlds.patience import PATIENCE_S
from tests.worlds.ports import free_port
from tests.worlds.toml_text import merged, toml

T = TypeVar("T")

STOP_S = 60.0  # a process, from SIGTERM to its end: longer than any `stop_within` here
POLL_S = 0.05

KEYS = {"shop": "shop-key-1", "bank": "bank-key-1"}
PROVIDER_KEY = "provider-key"
TOKEN = "callback-token"
FINAL = ("delivered", "seen", "undelivered", "suppressed", "expired", "cancelled")

PRICES = """provider,prefix,category,cost,sell,currency,valid_from
infobip-viber,,,0.0100,0.0125,EUR,2026-01-01
infobip-viber,,transactional,0.0060,0.0075,EUR,2026-01-01
infobip-viber,380,,0.0061,0.0076,EUR,2026-01-01
infobip-sms,7,,0.0400,0.0480,EUR,2026-01-01
infobip-sms,7916,,0.0371,0.0445,EUR,2026-01-01
infobip-sms,380,,0.0712,0.0854,EUR,2026-01-01
infobip-sms,49,,0.0810,0.0972,EUR,2026-01-01
"""

_TRACE = re.compile(r"Traceback|\"level\":\s*\"critical\"|\"event\":\s*\"incident\"")
_phones = itertools.count(2_000_001)


def phone(prefix: str = "+7916", digits: int = 7) -> str:
    """A number nobody has had yet in this test process."""
    return f"{prefix}{next(_phones):0{digits}d}"


def until(what: str, look: Callable[[], T | None], within_s: float = PATIENCE_S) -> T:
    """What `look` returns once it is true; fails with `what` and the last look at the deadline."""
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}; last seen: {found!r}"
        time.sleep(POLL_S)
    return found


class Process:
    """One role. `stop` and `kill` wait for its end."""

    def __init__(self, name: str, words: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._log = log
        self._read, write = os.pipe()
        self.killed = self._asked = False
        with log.open("ab") as out:
            self._popen = template.start(words, env, out.fileno(), out.fileno(), write)
        os.close(write)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def wait_ready(self) -> None:
        """Returns once the process said that it serves."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._read, selectors.EVENT_READ)
            told = os.read(self._read, 4096) if selector.select(PATIENCE_S) else b""
        os.close(self._read)
        assert told, f"{self.name} did not start (exit code {self._popen.poll()})"

    def signal(self, number: int) -> None:
        if self.running:
            self._popen.send_signal(number)

    def kill(self) -> None:
        """kill -9: the process gets no chance to say anything."""
        self.killed = True
        self._popen.kill()
        self._popen.wait()

    def ask_to_stop(self) -> None:
        """SIGTERM, once."""
        if not self._asked:
            self._asked = True
            self.signal(signal.SIGTERM)

    def stop(self, within_s: float = STOP_S) -> float:
        """Asks it to stop and waits; how many seconds it took. It must end cleanly."""
        began = time.monotonic()
        self.ask_to_stop()
        code = self._popen.wait(within_s)
        assert code == 0 or self.killed, f"{self.name} ended with {code}"
        return time.monotonic() - began

    def destroy(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")


class Stack:
    """The running system. `ports` are those of the ingress processes."""

    def __init__(self, directory: Path, config: Mapping[str, Any], ports: list[int]) -> None:
        self.directory = directory
        self.ports = ports
        self.config = directory / "kaskad.toml"
        self.config.write_text(toml(config))
        (directory / "prices.csv").write_text(PRICES)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("KASKAD_")},
            "SHOP_KEY": KEYS["shop"],
            "BANK_KEY": KEYS["bank"],
            "PROVIDER_KEY": PROVIDER_KEY,
            "CALLBACK_TOKEN": TOKEN,
            "CALLBACK_PASSWORD": "callback-password",
            "CALLBACK_SECRET": "callback-secret",
        }
        self.processes: list[Process] = []
        self._clients = contextlib.ExitStack()
        self._client: dict[str, Client] = {}
        self._simulator: child.Child | None = None
        self._redis: EmbeddedRedis | None = None

    # --- processes ---

    def start(self, name: str, *words: str) -> Process:
        """Starts `kaskad <words>`; ready only after `wait_ready`."""
        log = self.directory / f"{len(self.processes)}-{name}.log"
        process = Process(name, [*words, "--config", str(self.config)], self.env, log)
        self.processes.append(process)
        return process

    def start_ingress(self, number: int = 0) -> Process:
        return self.start("ingress", "serve", "--port", str(self.ports[number]))

    def start_dispatcher(self) -> Process:
        return self.start("dispatch", "dispatch")

    def command(self, *words: str, code: int = 0) -> str:
        """Runs a `kaskad` command to its end; its standard output."""
        with tempfile.TemporaryFile("r+") as out, tempfile.TemporaryFile("r+") as err:
            whole = [*words, "--config", str(self.config)]
            process = template.start(whole, self.env, out.fileno(), err.fileno())
            try:
                ended = process.wait(PATIENCE_S)
            finally:
                process.kill()
                process.wait()
            out.seek(0)
            err.seek(0)
            said = out.read()
            assert ended == code, f"{words}: {ended}, {err.read()}{said}"
            return said

    @property
    def redis(self) -> EmbeddedRedis:
        assert self._redis is not None, "this stack was started with another Redis"
        return self._redis

    # --- HTTP ---

    def client(self, app: str | None = "shop", ingress: int = 0) -> Client:
        """A connection of its own, for the caller to close."""
        return Client(self.ports[ingress], KEYS[app] if app is not None else None)

    def _kept(self, app: str) -> Client:
        if app not in self._client:
            self._client[app] = self._clients.enter_context(self.client(app))
        return self._client[app]

    def get(self, path: str, app: str = "shop", **headers: str) -> Answer:
        return self._kept(app).get(path, headers)

    def post(self, body: object, app: str = "shop", **headers: str) -> Answer:
        """Posts one message or an array of them."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._kept(app).post("/v1/messages", body, named)

    def put(self, path: str, body: object, app: str = "shop") -> Answer:
        return self._kept(app).request("PUT", path, body)

    def delete(self, path: str, app: str = "shop") -> Answer:
        return self._kept(app).request("DELETE", path)

    def stream(self, ingress: int = 0, **headers: str) -> contextlib.AbstractContextManager[Stream]:
        own = {"Authorization": f"Bearer {KEYS['shop']}", "Content-Type": "application/x-ndjson"}
        return streaming(self.ports[ingress], "/v1/messages", {**own, **headers})

    def accept(self, to: str, app: str = "shop", **keys: object) -> str:
        """Sends one message that must be accepted; its id."""
        body = {"to": to, "category": "transactional", "text": "Your order is on its way.", **keys}
        answer = self.post(body, app)
        assert answer.status == 202, answer
        return str(answer.json["id"])

    def accept_all(self, bodies: list[dict[str, Any]]) -> list[str]:
        """Sends messages as arrays, all of which must be accepted; their ids in order."""
        ids = []
        for start in range(0, len(bodies), 500):
            answer = self.post(bodies[start : start + 500])
            assert answer.status == 200, answer
            assert {item["outcome"] for item in answer.json} == {"accepted"}, answer.json
            ids += [item["id"] for item in answer.json]
        return ids

    def message(self, id_: str, app: str = "shop") -> dict[str, Any]:
        answer = self.get(f"/v1/messages/{id_}", app)
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json
        return found

    def status(self, id_: str) -> str:
        return str(self.message(id_)["status"])

    def when(
        self, id_: str, *statuses: str, app: str = "shop", within_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        """The message once it has one of the statuses; by default any final one."""
        wanted = statuses or FINAL

        def look() -> dict[str, Any] | None:
            message = self.message(id_, app)
            return message if message["status"] in wanted else None

        try:
            return until(f"message {id_} is {' or '.join(wanted)}", look, within_s)
        except AssertionError as late:
            raise AssertionError(f"{late}; {self.message(id_, app)}") from None

    def when_all_final(
        self, ids: Iterable[str], within_s: float = PATIENCE_S
    ) -> dict[str, dict[str, Any]]:
        """All messages once each has a final status."""
        open_ids, done = list(ids), {}

        def look() -> bool:
            # One after the other: asking for all of them each time cost more than sending them.
            while open_ids and (message := self.message(open_ids[0]))["status"] in FINAL:
                done[open_ids.pop(0)] = message
            return not open_ids

        try:
            until("every message is final", look, within_s)
        except AssertionError as late:
            left = [self.message(id_) for id_ in open_ids[:3]]
            raise AssertionError(f"{late}; {len(open_ids)} are left, such as {left}") from None
        return done

    # --- money ---

    @property
    def simulator(self) -> child.Child:
        assert self._simulator is not None, "this stack was started with another provider"
        return self._simulator

    def attach(self, simulation: child.Child | None, redis: EmbeddedRedis | None) -> None:
        self._simulator, self._redis = simulation, redis
        if redis is not None:
            self.env["KASKAD_REDIS_URL"] = redis.url

    def cost(self, group_by: str = "", **filters: str) -> dict[str, Any]:
        query = "&".join(f"{key}={value}" for key, value in filters.items())
        answer = self.get(f"/v1/reports/cost?group_by={group_by}&{query}")
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json
        return found

    def settled_bill(self) -> Bill:
        """The simulator's bill once it has nothing more to report."""

        def quiet() -> bool:
            stats = self.simulator.stats()
            return stats.pending == 0 and stats.reports_waiting == 0

        until("the simulator has pushed every report", quiet, PATIENCE_S)
        return self.simulator.bill()

    def ledger_equals_bill(self) -> None:
        """Holds the cost report against the provider's own bill, channel by channel."""
        bill = self.settled_bill()
        rows = {row["channel"]: row for row in self.cost("channel")["rows"] if row["channel"]}
        ours = {name: (Decimal(row["cost"]), row["sent"]) for name, row in rows.items()}
        theirs = {one.channel: (Decimal(one.charge), one.accepted) for one in bill.channels}
        assert {k: v for k, v in ours.items() if any(v)} == {
            k: v for k, v in theirs.items() if any(v)
        }
        total = self.cost()["total"]
        assert Decimal(total["cost"]) == sum(map(Decimal, bill.charge.values()))
        arrived = sum(row["delivered"] + row["double_delivered"] for row in rows.values())
        assert arrived == sum(channel.delivered for channel in bill.channels)

    def nothing_was_sent_twice(self) -> None:
        """No reference was in two requests, and no number got two messages on one channel; for
        tests that write to each number once."""
        messages = self.simulator.bill().messages
        assert {id_: one for id_, one in messages.items() if one.requests > 1} == {}
        got = Counter((one.channel, one.to) for one in messages.values())
        assert {where: count for where, count in got.items() if count > 1} == {}

    def books_agree(self) -> None:
        verdict = json.loads(self.command("report", "verify", "--json"))
        assert verdict["agrees"] is True, verdict
        assert verdict["differences"] == []

    # --- the end ---

    def stop(self) -> None:
        """Stops everything that still runs, and looks at how it went."""
        self._clients.close()
        for process in self.processes:
            process.ask_to_stop()
        for process in self.processes:
            process.stop()
        faulty = [process for process in self.processes if _TRACE.search(process.log)]
        assert not faulty, f"tracebacks in the logs of {[p.name for p in faulty]}"

    def destroy(self) -> None:
        self._clients.close()
        for process in self.processes:
            process.destroy()

    def print_logs(self) -> None:
        for process in self.processes:
            lines = process.log.splitlines()
            sys.stdout.write(f"--- {process.name} {process.pid}, {len(lines)} lines ---\n")
            sys.stdout.write("\n".join(line[:2500] for line in lines[-60:]) + "\n")


def default_config(port: int, provider_url: str) -> dict[str, Any]:
    """The configuration of a stack, before a test's own keys."""
    provider = {
        "base_url": provider_url,
        "api_key_env": "PROVIDER_KEY",
        "sender": "Shop",
        "rate": "1000/s",
        "timeout": "5s",
        "callback_token_env": "CALLBACK_TOKEN",
        "retry_delay": "100ms",
    }
    viber, sms = "infobip-viber", "infobip-sms"
    return {
        "server": {"port": port, "public_url": f"http://127.0.0.1:{port}", "stop_within": "10s"},
        "redis": {"data_dir": "redis"},
        "apps": [
            {"name": "shop", "key_env": "SHOP_KEY", "scopes": ["send", "read", "report-all"]},
            {"name": "bank", "key_env": "BANK_KEY"},
        ],
        "providers": {
            viber: {**provider, "kind": viber, "charged_on": "delivered"},
            sms: {**provider, "kind": sms, "charged_on": "sent"},
        },
        "routes": {
            "viber-then-sms": {
                "steps": [
                    {"provider": viber, "wait": "2s", "grace": "300ms"},
                    {"provider": sms, "wait": "3s", "grace": "300ms"},
                ]
            },
            "patient": {
                "steps": [
                    {"provider": viber, "wait": "60s", "grace": "1s"},
                    {"provider": sms, "wait": "60s", "grace": "1s"},
                ]
            },
            "sms-only": {"steps": [{"provider": sms, "wait": "60s", "grace": "1s"}]},
            "viber-only": {"steps": [{"provider": viber, "wait": "60s", "grace": "1s"}]},
        },
        "categories": {
            "otp": {"route": "viber-then-sms"},
            "transactional": {"route": "viber-then-sms"},
            "marketing": {"route": "viber-then-sms"},
        },
        "prices": {"file": "prices.csv", "currency": "EUR"},
        "lanes": {"lease": "2s", "heartbeat": "500ms", "stop_within": "5s"},
    }


def simulator_settings(directory: Path, knobs: Mapping[str, Any]) -> simulator.Settings:
    """A quick provider with our own price list, and the test's knobs over that."""
    file = directory / "simulator-prices.csv"
    file.write_text(PRICES)
    prices = simulator.load_prices(file, {"infobip-viber": "viber", "infobip-sms": "sms"})
    quick = {"answer_ms_max": 5, "receipt_ms_min": 5, "receipt_ms_max": 40, "expiry_ms": 300}
    whole = {"prices": prices, "seen_share": 0.0, **quick, **knobs}
    return simulator.Settings(PROVIDER_KEY, simulator.Knobs(**whole))


@contextlib.contextmanager
def stack(
    *,
    ingress: int = 1,
    dispatchers: int = 1,
    config: Mapping[str, Any] | None = None,
    knobs: Mapping[str, Any] | None = None,
    provider_url: str | None = None,
    own_redis: bool = True,
) -> Iterator[Stack]:
    """A running system: so many ingress processes and dispatchers on one embedded Redis.

    `config` is put over `default_config`; `knobs` are the simulator's. `own_redis` False starts
    none: then it is for `kaskad up` to do.
    """
    with contextlib.ExitStack() as parts:
        # Not pytest's directory: its path can be too long for a socket.
        directory = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="kaskad-")))
        simulation = None
        if provider_url is None:
            settings = simulator_settings(directory, knobs or {})
            simulation = parts.enter_context(template.simulation(settings))
            provider_url = simulation.base_url
        ports = [free_port() for _ in range(max(ingress, 1))]
        whole = merged(default_config(ports[0], provider_url), config or {})
        running = Stack(directory, whole, ports)
        redis = EmbeddedRedis(directory / "redis", "everysec") if own_redis else None
        if redis is not None:
            redis = parts.enter_context(redis)
        running.attach(simulation, redis)
        parts.callback(running.destroy)
        try:
            started = [running.start_ingress(number) for number in range(ingress)]
            started += [running.start_dispatcher() for _ in range(dispatchers)]
            for process in started:
                process.wait_ready()
            yield running
            running.stop()
        except BaseException:
            running.print_logs()
            raise
