"""Carries reports to the webhooks: gathers, posts over kept connections, repeats what failed.

A POST counts as taken on any 2xx; else it is repeated after the provider's 1 + n*n minutes (scaled
by a knob) up to `push_retries` times, then dropped and counted. Reports above OUTBOX_REPORTS_MAX
are dropped and counted as well.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final

import msgspec

from providers.simulator.client import Client, PushFailed
from providers.simulator.exchange import Push
from providers.simulator.knobs import Knobs
from providers.simulator.lines import Item

OUTBOX_REPORTS_MAX: Final = 2_000_000
_MINUTE_S: Final = 60.0


# Takes a URL, a body and how many seconds it may take; whether it was taken.
Carrier = Callable[[str, bytes, float], Awaitable[bool]]


class Pushed(msgspec.Struct):
    """What the pusher has done: POSTs taken, repeated and given up, reports taken and dropped."""

    posts: int = 0
    reports: int = 0
    retries: int = 0
    posts_given_up: int = 0
    reports_dropped: int = 0


class _Post(msgspec.Struct):
    url: str
    body: bytes
    items: list[Item]
    headers: dict[str, str]
    failures: int = 0


class Pusher:
    """`settled` is told which reports nobody is owed any more: taken, given up or dropped. `key` is
    that of the API, with which some providers sign. `carriers` take what goes by a scheme
    other than HTTP."""

    def __init__(
        self,
        knobs: Callable[[], Knobs],
        settled: Callable[[list[Item]], None] | None = None,
        key: str = "",
    ) -> None:
        self._knobs = knobs
        self._key = key
        self._settled = settled or _nobody
        self._client = Client()
        self.carriers: dict[str, Carrier] = {}
        self._gathering: dict[tuple[str, str], list[Push]] = {}
        self._ready: deque[_Post] = deque()
        self._retrying: dict[int, tuple[asyncio.TimerHandle, _Post]] = {}
        self._retry_ids = itertools.count()
        self._workers: set[asyncio.Task[None]] = set()
        self._flush: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._reports = 0
        self.pushed = Pushed()

    @property
    def waiting(self) -> int:
        """Reports that are gathered, under way or to be repeated."""
        return self._reports

    def add(self, pushes: Iterable[Push]) -> None:
        """Takes reports; they go out within `flush_ms`, or at once when a full POST is together."""
        limit = self._knobs().push_reports_max
        for push in pushes:
            if self._reports >= OUTBOX_REPORTS_MAX:
                self.pushed.reports_dropped += 1
                self._settled([push.item])
                continue
            self._reports += 1
            gathered = self._gathering.setdefault((push.url, push.kind), [])
            gathered.append(push)
            if len(gathered) >= limit:
                del self._gathering[push.url, push.kind]
                self._enqueue(*self._posts(push.url, gathered))
        if self._gathering and self._flush is None:
            loop = asyncio.get_running_loop()
            self._flush = loop.call_later(self._knobs().flush_ms / 1000, self.flush)

    async def push_first(self, pushes: Iterable[Push], timeout_s: float) -> None:
        """Posts these ahead of all others; returns when they are taken or failed once."""
        groups: dict[tuple[str, str], list[Push]] = {}
        for push in pushes:
            groups.setdefault((push.url, push.kind), []).append(push)
        carriers: list[asyncio.Task[None]] = []
        for (url, _), group in groups.items():
            self._reports += len(group)
            carriers += [self._start(self._carry(post)) for post in self._posts(url, group)]
        await asyncio.wait(carriers, timeout=timeout_s)

    def flush(self) -> None:
        """Starts to post what is gathered."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        gathering, self._gathering = self._gathering, {}
        for (url, _), group in gathering.items():
            self._enqueue(*self._posts(url, group))

    async def drain(self, timeout_s: float) -> None:
        """Posts what is gathered and waits, `timeout_s` at most, until no POST is under way."""
        self.flush()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return

    def retry_now(self, url: str = "") -> None:
        """Repeats every failed POST (to `url`, where one is named) at once, not after its delay."""
        for key, (timer, post) in list(self._retrying.items()):
            if url in ("", post.url):
                del self._retrying[key]
                timer.cancel()
                self._enqueue(post)

    async def clear(self) -> None:
        """Forgets everything that is waiting; a POST under way is cut."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        for timer, _ in self._retrying.values():
            timer.cancel()
        self._retrying.clear()
        self._gathering.clear()
        self._ready.clear()
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        self._reports = 0
        self._idle.set()
        self.pushed = Pushed()

    async def close(self) -> None:
        await self.clear()
        self._client.close()

    def _posts(self, url: str, pushes: list[Push]) -> list[_Post]:
        limit = self._knobs().push_reports_max
        if (own := pushes[0].twin.catalogue.reports_max) is not None:
            limit = min(limit, own)
        parts = (pushes[start : start + limit] for start in range(0, len(pushes), limit))
        return [self._post_of(url, part) for part in parts]

    def _post_of(self, url: str, pushes: list[Push]) -> _Post:
        twin = pushes[0].twin
        body = twin.post([push.report for push in pushes], self._key)
        own = twin.catalogue.headers
        headers = {} if own is None else own(url, body, self._key)
        return _Post(url, body, [push.item for push in pushes], headers)

    def _enqueue(self, *posts: _Post) -> None:
        self._ready.extend(posts)
        self._staff()

    def _staff(self) -> None:
        for _ in range(min(len(self._ready), self._knobs().push_connections)):
            if len(self._workers) >= self._knobs().push_connections:
                return
            self._start(self._work())

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._idle.clear()
        worker = asyncio.get_running_loop().create_task(work)
        self._workers.add(worker)
        worker.add_done_callback(self._worked)
        return worker

    def _worked(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        # A post that came between the worker's last look and this callback found no free place.
        self._staff()
        if not self._workers:
            self._idle.set()

    async def _work(self) -> None:
        while self._ready:
            await self._carry(self._ready.popleft())

    async def _carry(self, post: _Post) -> None:
        try:
            taken = await self._post(post)
        except PushFailed:
            taken = False
        if taken:
            self.pushed.posts += 1
            self.pushed.reports += len(post.items)
            self._over(post)
        else:
            self._failed(post)

    async def _post(self, post: _Post) -> bool:
        knobs = self._knobs()
        timeout_s = knobs.push_timeout_ms / 1000
        carry = self.carriers.get(post.url.partition(":")[0])
        if carry is not None:
            return await carry(post.url, post.body, timeout_s)
        status = await self._client.post(post.url, _headers(knobs, post), post.body, timeout_s)
        return 200 <= status < 300

    def _failed(self, post: _Post) -> None:
        knobs = self._knobs()
        post.failures += 1
        if post.failures > knobs.push_retries:
            self.pushed.posts_given_up += 1
            self.pushed.reports_dropped += len(post.items)
            self._over(post)
            return
        delay_s = (1 + post.failures**2) * _MINUTE_S * knobs.push_retry_scale
        key = next(self._retry_ids)
        timer = asyncio.get_running_loop().call_later(delay_s, self._again, key)
        self._retrying[key] = (timer, post)

    def _over(self, post: _Post) -> None:
        self._reports -= len(post.items)
        self._settled(post.items)

    def _again(self, key: int) -> None:
        self.pushed.retries += 1
        _, post = self._retrying.pop(key)
        self._enqueue(post)


def _nobody(_: list[Item]) -> None:
    """Without a book nobody keeps what is owed."""


def _headers(knobs: Knobs, post: _Post) -> list[tuple[str, str]]:
    usual = {"content-type": "application/json"} | post.headers
    headers = [*usual.items(), *knobs.push_headers.items()]
    if knobs.push_basic:
        token = base64.b64encode(knobs.push_basic.encode()).decode()
        headers.append(("authorization", f"Basic {token}"))
    if knobs.push_hmac_secret:
        key = knobs.push_hmac_secret.encode()
        digest = hmac.new(key, post.body, knobs.push_hmac_algorithm).hexdigest()
        headers.append((knobs.push_hmac_header, digest))
    return headers
