"""One world to measure in: Redis, provider simulator, ingress and dispatchers as real processes.

It configures, starts and ends them, and answers what every scenario asks: how far the provider is,
what the ledger and the provider's bill say, CPU by kind of process. Everything is on the loopback
and in one temporary folder. What does not add up is a BenchFailed.
"""

from __future__ import annotations

import datetime
import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.processes import BenchFailed, Child, cpu_s, free_port, reaped_s
from bench.redis_server import RedisServer
from bench.sizes import SMPP_WINDOW
from bench.stack import (
    ACCOUNT_FILE,
    APP_KEY,
    FCM,
    PRICES,
    PROVIDER_KEY,
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
from bench.waiting import POLL_S, until

VIBER_COST = "0.0100"
SETTLE_S_MAX = 600.0
STALL_S_MAX = 45.0  # nothing became final for so long: something is lost or stuck
LOGS_A_REQUEST = 50
NOTIFIED = "notified"  # the route of notifications
MAILED = "mailed"  # the route of e-mails
TEXTED = "texted"  # the route of SMS by SMPP
TELLING = '[webhooks]\nallow_hosts = ["127.0.0.1"]\n\n'

Progress = Callable[[float], None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a world is set up. `rate` is the provider's limit in messages/s, `knobs` are those of the
    simulator. `seen`: every Viber message is, and its step waits for that. `notifies`: there is a
    provider of notifications, and a route to it; `mails`: a mail server likewise, `texts`: an SMSC.
    `tells`: webhooks may be called on the loopback.
    """

    dispatchers: int = 1
    workers: int = 1
    rate: int = 100_000
    batch: int = 100
    connections: int = 16
    viber_share: float = 1.0
    seed: int = 1
    seen: bool = False
    knobs: dict[str, object] = {}
    notifies: bool = False
    mails: bool = False
    texts: bool = False
    tells: bool = False


class Cpu(NamedTuple):
    """CPU seconds by kind; `rewrite` is Redis writing its file anew in a child that has ended."""

    ingress: float
    dispatch: float
    redis: float
    rewrite: float
    simulator: float


class World(Stack):
    """The processes of one scenario; a context manager that stops what it started."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        super().__init__(folder)
        self.plan = plan
        self.port = free_port()
        self.smtp_port, self.smpp_port = free_port(), free_port()
        self.dispatchers: list[Child] = []
        self._stopped_dispatch_s = 0.0
        self._children: list[Child] = []
        self._config = folder / "kaskad.toml"

    def start(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / "prices.csv").write_text(PRICES)
        if self.plan.notifies:
            (self.folder / ACCOUNT_FILE).write_text(service_account(self.provider_url))
        self.redis = RedisServer(self.folder / "redis", self.env)
        self._children.append(self.redis)
        doors = self.smtp_port, self.smpp_port
        text = config_text(self.plan, self.port, self.provider_url, self.redis.url, *doors)
        self._config.write_text(text)
        self.redis.await_ready()
        self.simulator = self._simulator()
        self.ingress = self._role("serve", "--workers", str(self.plan.workers))
        waiting = [self.simulator, self.ingress]
        waiting += [self._dispatcher() for _ in range(self.plan.dispatchers)]
        for child in waiting:
            child.await_ready()

    def stop(self) -> None:
        """Ends the roles together, so that none waits for another, and Redis after them."""
        roles = [child for child in self._children if child is not self.redis]
        for child in roles:
            child.process.terminate()
        for child in [*roles, *self._children]:
            child.stop()
        self._children.clear()

    def start_dispatcher(self) -> None:
        self._dispatcher().await_ready()

    def stop_dispatchers(self) -> None:
        """Stops them as an operator would; their CPU time stays counted."""
        for child in self.dispatchers:
            self._stopped_dispatch_s += cpu_s(child.pid)
            child.stop()
            self._children.remove(child)
        self.dispatchers.clear()

    def _dispatcher(self) -> Child:
        child = self._role("dispatch")
        self.dispatchers.append(child)
        return child

    def _simulator(self) -> Child:
        # Shares are all or nothing, so that a message is one send and one receipt unless asked.
        knobs: dict[str, object] = {"viber_delivered": 1.0, "viber_undelivered": 0.0}
        plan = self.plan
        knobs |= {"sms_delivered": 1.0, "sms_undelivered": 0.0, "seen_share": float(plan.seen)}
        knobs |= {"push_share": 1.0, "email_share": 1.0}
        knobs |= {"email_delivered": 1.0, "email_undelivered": 0.0}
        knobs |= {"receipt_ms_min": 20, "receipt_ms_max": 100}
        knobs |= {"seen_ms_min": 20, "seen_ms_max": 100, **plan.knobs}
        doors = ["--smtp-port", str(self.smtp_port)] if plan.mails else []
        doors += ["--smpp-port", str(self.smpp_port)] if plan.texts else []
        child = self.launch_simulator(self._config, plan.seed, plan.viber_share, knobs, *doors)
        self._children.append(child)
        return child

    def _role(self, *words: str) -> Child:
        child = self.launch_role(words[0], self._config, list(words))
        self._children.append(child)
        return child

    # --- looking ---

    def check(self) -> None:
        """Raises BenchFailed when a process has died."""
        for child in self._children:
            child.check()

    def cpu(self) -> Cpu:
        """CPU seconds so far, by kind."""
        return Cpu(
            ingress=cpu_s(self.ingress.pid),
            dispatch=self._stopped_dispatch_s + sum(cpu_s(c.pid) for c in self.dispatchers),
            redis=cpu_s(self.redis.pid),
            rewrite=reaped_s(self.redis.pid),
            simulator=cpu_s(self.simulator.pid),
        )

    def await_provider(self, messages: int, progress: Progress | None = None) -> None:
        """Returns when the provider took `messages` and every receipt of it was taken by us."""
        deadline = time.monotonic() + SETTLE_S_MAX
        last: object = None
        moved_s = time.monotonic()
        while True:
            stats = self.stats()
            if progress is not None:
                progress(stats["pushed"]["reports"])
            open_reports = stats["pending"] + stats["reports_waiting"]
            if stats["messages"] >= messages and not open_reports:
                return
            now_s, state = time.monotonic(), (stats["messages"], stats["pushed"]["reports"])
            if state != last:
                last, moved_s = state, now_s
            self.check()
            if now_s > deadline or now_s - moved_s > STALL_S_MAX:
                raise BenchFailed(
                    f"The provider has {stats['messages']} of {messages} messages and "
                    f"{open_reports} receipts are open, and nothing moves any more."
                )
            time.sleep(POLL_S)

    def sent(self) -> int:
        """How many messages the provider has. Raises BenchFailed when a process has ended."""
        self.check()
        messages: int = self.stats()["messages"]
        return messages

    def await_sent(self, messages: int) -> None:
        until(f"{messages} messages are sent", lambda: self.sent() >= messages, SETTLE_S_MAX)

    def await_ledger(self, delivered: int) -> None:
        """Returns when so many deliveries are booked, which nobody reports."""

        def booked() -> bool:
            self.check()
            found: int = self.call("/v1/reports/cost")["total"]["delivered"]
            return found >= delivered

        until(f"{delivered} deliveries are booked", booked, SETTLE_S_MAX)

    def campaign(self, name: str, said: Mapping[str, object] | None = None) -> dict[str, Any]:
        """The campaign, which first becomes what is `said` of it. Raises BenchFailed."""
        return self.call(f"/v1/campaigns/{name}", said, method="GET" if said is None else "PUT")

    def call(
        self, path: str, said: Mapping[str, object] | None = None, *, method: str = "GET"
    ) -> dict[str, Any]:
        """What the gateway answers the app. Raises BenchFailed."""
        url = f"http://127.0.0.1:{self.port}{path}"
        body = None if said is None else json.dumps(said).encode()
        shown: dict[str, Any] = self.ask(url, f"Bearer {APP_KEY}", method=method, body=body)
        return shown

    def sent_ms(self, message_ids: list[str]) -> dict[str, float]:
        """When the provider got the first step of each message, epoch milliseconds."""
        found = {}
        for start in range(0, len(message_ids), LOGS_A_REQUEST):
            part = ",".join(f"{each}.0" for each in message_ids[start : start + LOGS_A_REQUEST])
            query = f"limit={LOGS_A_REQUEST}&messageId={part}"
            logs = self.ask(f"{self.provider_url}/viber/2/logs?{query}", f"App {PROVIDER_KEY}")
            for row in logs["results"]:
                found[row["messageId"].partition(".")[0]] = epoch_ms(row["sentAt"])
        return found

    def metric(self, name: str) -> float:
        """The sum of a series of /metrics over all labels and processes."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        values = [
            line.rpartition(" ")[2] for line in lines if line.startswith((f"{name}{{", f"{name} "))
        ]
        return sum(map(float, values))

    def reconcile(self, accepted: int) -> dict[str, object]:
        """Holds the ledger against the provider's bill. Raises BenchFailed at any difference."""
        total = self.call("/v1/reports/cost")["total"]
        channels = self.call("/v1/reports/cost?group_by=channel")["rows"]
        if total["accepted"] != accepted:
            raise BenchFailed(
                f"{accepted} messages were accepted, the ledger has {total['accepted']}."
            )
        duplicates = self.stats()["duplicates"]
        if duplicates:
            raise BenchFailed(f"{duplicates} messages were sent to the provider twice.")
        return books_agree(channels, self.bill()["channels"])


def books_agree(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, object]:
    """Compares our report's rows by channel with the provider's; returns what both say.

    Delivered messages and cost must be equal to the last unit, else BenchFailed.
    """
    ledger = {
        row["channel"]: (row["delivered"] + row["double_delivered"], Decimal(row["cost"]))
        for row in ours
        if row["channel"] is not None and row["sent"]
    }
    bill = {row["channel"]: (row["delivered"], Decimal(row["charge"])) for row in theirs}
    if ledger != bill:
        raise BenchFailed(f"The ledger has {ledger}, the provider's bill {bill}.")
    delivered = sum(count for count, _ in ledger.values())
    return {"delivered": delivered, "cost": str(sum(cost for _, cost in ledger.values()))}


def epoch_ms(text: str) -> float:
    """Epoch milliseconds of 2026-11-01T12:34:56.789+0000."""
    return datetime.datetime.fromisoformat(text).timestamp() * 1000


def config_text(
    plan: Plan, port: int, provider_url: str, redis_url: str, smtp_port: int = 0, smpp_port: int = 0
) -> str:
    """The product's configuration: everything on (claims, caps, prices, ledger), one app."""
    connections = f"connections = {plan.connections}"
    providers = providers_text(provider_url, plan.rate, plan.batch, connections)
    apart: list[tuple[str, str]] = []  # a route, and who alone is on it
    if plan.notifies:
        providers += fcm_text(provider_url, plan.rate, connections)
        apart.append((NOTIFIED, FCM))
    if plan.mails:
        providers += smtp_text(smtp_port, plan.rate, connections)
        apart.append((MAILED, SMTP))
    if plan.texts:
        providers += smpp_text(smpp_port, plan.rate, f"window = {SMPP_WINDOW}")
        apart.append((TEXTED, SMPP))
    until = ', until = "seen", react = "4h"' if plan.seen else ""
    routes = "".join(
        f"[routes.{name}]\nsteps = [\n"
        f'  {{ provider = "{VIBER}", wait = "{wait}"{until} }},\n'
        f'  {{ provider = "{SMS}", wait = "{last_wait}" }},\n]\n\n'
        for name, wait, last_wait in (("fast", "60s", "5m"), ("usual", "15m", "24h"))
    )
    routes += "".join(
        f'[routes.{route}]\nsteps = [{{ provider = "{name}", wait = "15m" }}]\n\n'
        for route, name in apart
    )
    categories = "".join(
        f'[categories.{name}]\nroute = "{route}"\n\n'
        for name, route in (("otp", "fast"), ("transactional", "usual"), ("marketing", "usual"))
    )
    caps = "".join(
        f'[[caps]]\nname = "{name}"\ncategory = "{category}"\nchannel = "{channel}"\n'
        f'limit = {limit}\nwindow = "{window}"\n\n'
        for name, category, channel, limit, window in (
            ("one-marketing-a-day", "marketing", "any", 1, "1d"),
            ("three-marketing-sms-a-week", "marketing", "sms", 3, "7d"),
            ("ten-codes-an-hour", "otp", "any", 10, "1h"),
        )
    )
    return (
        f'[server]\nport = {port}\npublic_url = "http://127.0.0.1:{port}"\n\n'
        f'[redis]\nurl = "{redis_url}"\n\n'
        '[[apps]]\nname = "bench"\nkey_env = "BENCH_APP_KEY"\n'
        'scopes = ["send", "read", "report", "manage"]\n\n'
        f"{providers}{TELLING * plan.tells}"
        f'{routes}{categories}{caps}[prices]\nfile = "prices.csv"\n'
    )
