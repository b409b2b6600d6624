"""The report page served by uvicorn over a real Redis that lived through a month of messages."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import uvicorn
from msgspec.structs import replace

from gateway.core.addresses import Addresses
from gateway.core.events import Accepted, Claimed, Event, Reported
from gateway.core.money.budgets import Budget
from gateway.core.money.months import Month
from gateway.core.money.prices import Price
from gateway.core.policy import CategoryRule, Policy, ProviderRule, RouteStep
from gateway.core.records.content import Content
from gateway.core.records.request import MessageRequest
from gateway.finance.reports.closing import close_month
from gateway.ingress.http.app import Ingress, open_ingress
from gateway.redis.asyncio_driver import open_client
from gateway.settings import file as configuration
from gateway.store.installation import api_keys
from gateway.store.installation.api_keys import Scope
from gateway.store.messages.apply import Item
from gateway.store.store import Store
from providers.contract import Receipt
from tests.worlds.ingress_world import CONFIG, ENV
from tests.worlds.patience import PATIENCE_S

NOW_MS = 1_795_262_400_000  # 2026-11-21T12:00:00Z
DAY_MS = 86_400_000
KEY = "ksk_finance"

PRICES = {"viber": Price(5_200, 9_000, "EUR"), "sms": Price(41_000, 70_000, "EUR")}
POLICY = Policy(
    routes={"viber-then-sms": (RouteStep(("viber",), 900_000, 0), RouteStep(("sms",), 900_000, 0))},
    categories={
        "marketing": CategoryRule("viber-then-sms", DAY_MS),
        "otp": CategoryRule("viber-then-sms", DAY_MS),
    },
    providers={"viber": ProviderRule("viber"), "sms": ProviderRule("sms")},
    caps=(),
    dedupe_ms=30 * DAY_MS,
    slot_ms={},
    currency="EUR",
    quote=lambda provider, digits, category, day: PRICES.get(provider),
    budgets=(
        Budget("autumn", 10_000_000, 30 * DAY_MS, "30d", campaign="autumn-sale", warn=(50,)),
        Budget("all-of-it", 200_000_000, 0, "month"),
    ),
)
# app, campaign, messages, how many of them Viber delivers, how many then SMS delivers, days ago;
# in the order in which they were sent
CAMPAIGNS = (
    ("shop", "Осенняя распродажа", 40, 25, 10, 9),
    ("shop", "autumn-sale", 120, 70, 40, 2),
    ("bank", "=limit-offer", 30, 12, 18, 0),
    ("bank", None, 25, 20, 4, 0),
)


async def send_all(store: Store) -> None:
    """Every campaign's messages through acceptance and cascade to their end; one in ten is sent
    twice.
    """
    for position, (app, campaign, count, by_viber, by_sms, days_ago) in enumerate(CAMPAIGNS):
        now_ms = NOW_MS - days_ago * DAY_MS
        first = [
            MessageRequest(
                id=store.new_message_id(to, now_ms),
                app=app,
                addresses=Addresses(to),
                country="RU" if n % 3 else "DE",
                category="marketing" if campaign else "otp",
                content=Content("Скидки начались"),
                campaign=campaign,
            )
            for n in range(count)
            if (to := f"79{position}{n:08}")
        ]
        again = [
            replace(s, id=store.new_message_id(s.home, now_ms)) for s in first[::10] if campaign
        ]
        await store.admit(first + again, now_ms)

        async def happen(ids: Sequence[str], event: Event, now_ms: int = now_ms) -> None:
            await store.apply([Item(id_, event) for id_ in ids], now_ms)

        async def end(
            ids: Sequence[str], step: int, provider: str, status: Any, now_ms: int = now_ms
        ) -> None:
            receipts = [(id_, Receipt(status, f"{id_}.{step}")) for id_ in ids]
            items = [Item(id_, Reported(step, receipt, provider)) for id_, receipt in receipts]
            await store.apply(items, now_ms)

        ids = [s.id for s in first]
        reached, fallen = ids[:by_viber], ids[by_viber:]
        await happen(ids, Claimed(0))
        await happen(ids, Accepted(0))
        await end(reached, 0, "viber", "delivered")
        await end(fallen, 0, "viber", "undelivered")
        await happen(fallen, Claimed(1))
        await happen(fallen, Accepted(1))
        await end(fallen[:by_sms], 1, "sms", "delivered")
        await end(fallen[by_sms:], 1, "sms", "undelivered")


class Site:
    """A worker with the report on a port of this machine, served by a thread of its own."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._served = threading.Event()
        self._port = self._socket.getsockname()[1]
        self.operators_key = ""
        self._stop: Any = None
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="report-site")
        self.origin = f"http://127.0.0.1:{self._port}"
        self.with_key = f"http://finance:{KEY}@127.0.0.1:{self._port}"

    @property
    def with_operators_key(self) -> str:
        """The origin with a key that may do everything."""
        return f"http://night:{self.operators_key}@127.0.0.1:{self._port}"

    def __enter__(self) -> Site:
        self._thread.start()
        assert self._served.wait(PATIENCE_S)
        if self._fault is not None:
            raise self._fault
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._thread.join(PATIENCE_S)
        self._socket.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as fault:
            self._fault = fault
            self._stop = lambda: None
            self._served.set()

    async def _serve(self) -> None:
        async with open_client(self._redis_url) as redis:
            store = Store(redis, POLICY)
            await send_all(store)
            october = Month.named("2026-10")
            assert october is not None
            assert isinstance(await close_month(store, october, NOW_MS), bytes)
            scopes = list(get_args(Scope))
            self.operators_key = await api_keys.create(redis, "shop", scopes, NOW_MS, by="site")
            settings = configuration.parse(
                CONFIG.format(server="", shards=1), Path("/nowhere"), ENV | {"FINANCE_KEY": KEY}
            )
            async with open_ingress(
                settings, store, now_ms=lambda: NOW_MS, process="ingress-site-1", server="1-site"
            ) as app:
                await self._serve_app(app)

    async def _serve_app(self, app: Ingress) -> None:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error"))
        loop = asyncio.get_running_loop()

        def stop() -> None:
            loop.call_soon_threadsafe(setattr, server, "should_exit", True)

        self._stop = stop
        # The socket listens already: whoever connects from now on waits at most for the loop.
        self._served.set()
        await server.serve([self._socket])
