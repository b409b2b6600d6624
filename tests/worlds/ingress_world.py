"""An ingress worker on a real Redis, in this process, and a client that speaks ASGI to it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from gateway.core import events as ev
from gateway.core.money.prices import Price
from gateway.ingress.http.app import Ingress, open_ingress
from gateway.ingress.http.asgi import CONNECTION
from gateway.redis.asyncio_driver import open_client
from gateway.redis.client import Command, RedisClient, RedisReply, Session, Statistics
from gateway.redis.errors import RedisUnavailable
from gateway.settings import file as configuration
from gateway.settings.bootstrap import policy_of, retention_of
from gateway.settings.file import Settings
from gateway.store.messages.apply import Item
from gateway.store.store import Store
from providers.contract import Receipt
from tests.worlds.patience import PATIENCE_S

T0 = 1_795_000_000_000
PHONE = "+79161234567"
OTP = {"to": PHONE, "category": "otp", "text": "Your code is 1234"}
SALE = {"to": PHONE, "category": "marketing", "campaign": "autumn", "text": "Sale!"}

CONFIG = """
[server]
{server}
[redis]
url = "redis://unused"
shards = {shards}
[[apps]]
name = "shop"
key_env = "SHOP_KEY"
[[apps]]
name = "bank"
key_env = "BANK_KEY"
[[apps]]
name = "reader"
key_env = "READER_KEY"
scopes = ["read"]
[[apps]]
name = "finance"
key_env = "FINANCE_KEY"
scopes = ["report-all"]
[providers.viber]
kind = "infobip-viber"
base_url = "http://127.0.0.1:1"
api_key_env = "PROVIDER_KEY"
sender = "Shop"
callback_token_env = "CALLBACK_TOKEN"
[providers.sms]
kind = "infobip-sms"
base_url = "http://127.0.0.1:1"
api_key_env = "PROVIDER_KEY"
sender = "Shop"
callback_basic_user = "infobip"
callback_basic_password_env = "CALLBACK_PASSWORD"
callback_hmac_secret_env = "CALLBACK_SECRET"
callback_hmac_header = "X-Signature"
[routes.both]
steps = [{{ provider = "viber", wait = "15m" }}, {{ provider = "sms", wait = "24h" }}]
[routes.sms-only]
steps = [{{ provider = "sms", wait = "5m" }}]
[categories.otp]
route = "sms-only"
[categories.transactional]
route = "both"
[categories.marketing]
route = "both"
[[caps]]
name = "two-a-day"
category = "marketing"
channel = "any"
limit = 2
window = "1d"
[prices]
currency = "EUR"
"""
ENV = {
    "SHOP_KEY": "shop-key",
    "BANK_KEY": "bank-key",
    "READER_KEY": "reader-key",
    "FINANCE_KEY": "finance-key",
    "PROVIDER_KEY": "k",
    "CALLBACK_TOKEN": "tok",
    "CALLBACK_PASSWORD": "of-callbacks",
    "CALLBACK_SECRET": "hush",
}


def settings(
    server: str = "", shards: int = 1, changed: Mapping[str, str] | None = None
) -> Settings:
    """`changed`: texts of the file, and what stands there instead."""
    text = CONFIG.format(server=server, shards=shards)
    for old, new in (changed or {}).items():
        assert old in text
        text = text.replace(old, new)
    return configuration.parse(text, Path("/nowhere/kaskad.toml"), ENV)


def quote(*_: object) -> Price:
    return Price(5_000, 8_000, "EUR")


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.now_ms = T0

    def __call__(self) -> int:
        return self.now_ms


class SwitchedClient:
    """A Redis client whose Redis can be taken away and given back; of a cluster one shard alone."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self.away = False
        self.tag_away = ""  # of the shard that is away
        self.refused = asyncio.Event()  # something was asked while it was away
        self.calls = 0

    def _check(self, keys: Iterable[object]) -> None:
        self.calls += 1
        if self.away or (self.tag_away and any(self.tag_away in str(key) for key in keys)):
            self.refused.set()
            raise RedisUnavailable("Redis at secret-host:6379 is away.")

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        self._check(word for command in commands for word in command[1:])
        return await self._redis.call(commands)

    def session(self, key: str) -> AbstractAsyncContextManager[Session]:
        return self._session(key)

    @asynccontextmanager
    async def _session(self, key: str) -> AsyncIterator[Session]:
        self._check([key])
        async with self._redis.session(key) as session:
            yield session

    async def wait_for_move(self, tries: int) -> None:
        await self._redis.wait_for_move(tries)

    def statistics(self) -> Statistics:
        return self._redis.statistics()

    async def aclose(self) -> None:
        await self._redis.aclose()


class Answer:
    """A whole answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class Connection:
    """What the connection is to the application."""

    def __init__(self) -> None:
        self.aborted = False
        self.body_is_apps = False

    def leave_body_to_app(self) -> None:
        self.body_is_apps = True

    def abort(self) -> None:
        self.aborted = True


class Exchange:
    """One request and its answer as they go, chunk by chunk."""

    def __init__(self, app: Any, scope: dict[str, Any]) -> None:
        self.connection = Connection()
        self.received = 0  # chunks that the application took
        self._took = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._rest = b""
        self._start: dict[str, Any] = {"status": 0, "headers": []}
        scope[CONNECTION] = self.connection
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        event = await self._incoming.get()
        self.received += 1
        self._took.set()
        return event

    async def _send(self, event: dict[str, Any]) -> None:
        await self.reading.wait()
        await self._outgoing.put(event)

    async def has_received(self, count: int) -> None:
        """Returns once the application took so many chunks."""
        while self.received < count:
            self._took.clear()
            await self._took.wait()

    def feed(self, body: bytes, *, more: bool = True) -> None:
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def hang_up(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def event(self) -> dict[str, Any]:
        """The next piece of the answer."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._outgoing.get()

    async def until(self, mark: bytes) -> bytes:
        """The answer's body up to and with `mark`."""
        while mark not in self._rest:
            event = await self.event()
            if event["type"] == "http.response.start":
                self._start = event
                continue
            self._rest += event["body"]
            assert event.get("more_body") or mark in self._rest, self._rest
        found, _, self._rest = self._rest.partition(mark)
        return found + mark

    async def line(self) -> Any:
        return json.loads(await self.until(b"\n"))

    async def answer(self) -> Answer:
        """All of it; the application has returned."""
        async with asyncio.timeout(PATIENCE_S):
            await self._task
        body = self._rest
        while not self._outgoing.empty():
            event = self._outgoing.get_nowait()
            if event["type"] == "http.response.start":
                self._start = event
            else:
                body += event.get("body", b"")
        headers = {k.decode(): v.decode() for k, v in self._start["headers"]}
        return Answer(self._start["status"], headers, body)


class World:
    """The worker and what a test may turn."""

    def __init__(self, app: Ingress, store: Store, redis: SwitchedClient, clock: Clock) -> None:
        self.app = app
        self.store = store
        self.redis = redis
        self.clock = clock

    def begin(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        key: str = "shop-key",
    ) -> Exchange:
        path, _, query = path.partition("?")
        told = {"authorization": f"Bearer {key}"} if key else {}
        told |= {name.lower(): value for name, value in (headers or {}).items()}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in told.items()],
        }
        return Exchange(self.app, scope)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = b"",
        headers: Mapping[str, str] | None = None,
        key: str = "shop-key",
    ) -> Answer:
        """`body`: bytes as they are, anything else as JSON."""
        told = dict(headers or {})
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            told.setdefault("content-type", "application/json")
        exchange = self.begin(method, path, told, key)
        exchange.feed(body, more=False)
        return await exchange.answer()

    async def send(self, message: Any, **headers: str) -> Answer:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("POST", "/v1/messages", message, names)

    def stream(self, **headers: str) -> Exchange:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        kind = {"content-type": "application/x-ndjson"}
        return self.begin("POST", "/v1/messages", kind | names)

    async def hand_over(self, id_: str) -> None:
        """Its first step is with the provider."""
        happened = (ev.Claimed(0), ev.Accepted(0))
        await self.store.apply([Item(id_, event) for event in happened], self.clock.now_ms)

    async def deliver(self, id_: str) -> None:
        """Its first step, which is Viber's, is with the provider and arrives."""
        await self.hand_over(id_)
        arrived = ev.Reported(0, Receipt("delivered", ref=f"{id_}.0"), "viber")
        await self.store.apply([Item(id_, arrived)], self.clock.now_ms)


Test = Callable[..., Awaitable[None]]


def with_ingress(
    server: str = "", shards: int = 1, changed: Mapping[str, str] | None = None
) -> Callable[[Test], Callable[..., None]]:
    """Runs `async def test(world)` on uvloop; `server` is TOML for that table."""

    def decorate(test: Test) -> Callable[..., None]:
        @functools.wraps(test)
        def run(redis_url: str, **fixtures: Any) -> None:
            uvloop.run(_run(test, redis_url, settings(server, shards, changed), fixtures))

        parameters = list(inspect.signature(test).parameters.values())[1:]
        url = inspect.Parameter("redis_url", inspect.Parameter.KEYWORD_ONLY)
        rest = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        run.__signature__ = inspect.Signature([url, *rest])  # type: ignore[attr-defined]
        return run

    return decorate


async def _run(test: Test, url: str, config: Settings, fixtures: dict[str, Any]) -> None:
    async with asyncio.timeout(PATIENCE_S), opened_world(url, config, Clock()) as world:
        await test(world, **fixtures)


@asynccontextmanager
async def opened_world(url: str, config: Settings, clock: Clock) -> AsyncIterator[World]:
    async with open_client(url) as real:
        redis = SwitchedClient(real)
        store = Store(
            redis,
            policy_of(config, quote),
            shards=config.redis.shards,
            retention=retention_of(config),
        )
        async with open_ingress(
            config, store, now_ms=clock, process="ingress-test-1", server="1-test"
        ) as app:
            yield World(app, store, redis, clock)
            redis.away = False
