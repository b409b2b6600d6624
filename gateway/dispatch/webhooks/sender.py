"""Tells one webhook what waits for it: fetch, call, note, each at its own pace.

Bodies are made when events are fetched, so what waits beyond two hundred of them costs no memory
here. Callers stand side by side, each makes one call after the other, and what some milliseconds of
calls came to is written down together: what was told when this process died, and was not noted yet,
is told again. Cancelled, it notes what it knows. While Redis is unavailable, it is tried again.
"""

from __future__ import annotations

import math
import random
from collections import deque
from contextlib import suppress
from typing import NamedTuple

import structlog
import trio
from msgspec.structs import replace

from gateway.core.records.webhook import FAILING, GONE, Webhook, WebhookTry
from gateway.core.webhooks import FAILING_MS, LOST, next_delay_ms
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.redis_retry import RETRYABLE
from gateway.dispatch.webhooks.bodies import bodies
from gateway.dispatch.webhooks.posting import CONNECTIONS, CallAnswer, OpenPosting, Posting
from gateway.dispatch.webhooks.recovering import Recovering
from gateway.dispatch.webhooks.resting import Resting
from gateway.store.events import outbox, webhook_queues, webhooks
from gateway.store.events.outbox import LostEvents
from gateway.store.events.webhook_queues import Due, TryResults

FETCH = 200  # events in hand
LOOK_S = 0.5
GATHER_S = 0.01  # for so long what calls come to is gathered, to be noted together
UNREAD_MS = 60_000  # what a newer Kaskad wrote is looked at again
AWAY_MS = 3_000  # so is what stands in a shard that is away
SEEN_S = 2.0  # how often it is looked at how it is
FAREWELL_S = 1.0
GONE_STATUS = 410

_log = structlog.get_logger("dispatch")


class EndedCall(NamedTuple):
    due: Due
    tried: WebhookTry
    answer: CallAnswer


class WebhookSender:
    """One webhook's, while it is this dispatcher's to tell. Nothing more is called once its app
    disabled it, deleted it or gave it another address."""

    def __init__(
        self,
        deps: DispatchDeps,
        app: str,
        name: str,
        webhook: Webhook,
        open_posting: OpenPosting,
    ) -> None:
        self.webhook = webhook
        self.scope = trio.CancelScope()
        self.waiting = 0  # events in its queue, when it was looked at last
        self._deps = deps
        self._app = app
        self._name = name
        self._open_posting = open_posting
        self._retry = deps.redis_retry("webhooks")
        self._resting = Resting()
        self._recovering = Recovering(deps, app, webhook.id)
        self._in_hand: set[str] = set()
        self._ready: deque[tuple[Due, bytes, str]] = deque()
        self._open = 0
        self._ended: list[EndedCall] = []
        self._lost: LostEvents | None = None
        self._failing_ms: int | None = None  # since when, as it stands in Redis
        self._news = trio.Event()  # something is to be fetched, called or noted
        self._fetch_at = self._look_at = 0.0

    def wake(self) -> None:
        """Something was put into its queue."""
        self._fetch_at = 0.0
        self._news.set()

    def failed_ms(self, now_ms: int) -> int:
        """For how long no try succeeded."""
        return 0 if self._failing_ms is None else now_ms - self._failing_ms

    async def run(self) -> None:
        """Until its scope is cancelled."""
        with self.scope:
            posting = self._open_posting(self.webhook.url)
            try:
                async with trio.open_nursery() as calls:
                    while True:
                        self._news = trio.Event()
                        await self._retry.until_done(self._note)
                        await self._retry.until_done(self._fetch)
                        self._call(calls, posting)
                        with trio.move_on_at(self._next_at()):
                            await self._news.wait()
                        if self._ended:
                            await trio.sleep(GATHER_S)
            finally:
                posting.close()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL_S):
                    try:
                        await self._note()
                    except RETRYABLE as error:
                        _log.warning("webhook tries are not noted", reason=str(error))

    def _next_at(self) -> float:
        """When there is something to do, whatever comes."""
        if self._resting.until > trio.current_time():
            return self._resting.until
        return self._fetch_at if self._has_room else math.inf

    @property
    def _has_room(self) -> bool:
        return len(self._in_hand) <= FETCH // 4

    def _call(self, calls: trio.Nursery, posting: Posting) -> None:
        """Has as many callers as there may be, and something to do for."""
        allowed = self._allowed()
        if not allowed:  # what waits here would be old by then
            self._in_hand.difference_update(due.event.id for due, _, _ in self._ready)
            self._ready.clear()
        for _ in range(min(allowed - self._open, len(self._ready))):
            self._open += 1
            calls.start_soon(self._keep_calling, posting)

    def _allowed(self) -> int:
        """How many calls may be open now; what the app changed holds from here on."""
        known = self._known()
        if known is None:
            return 0
        self.webhook = known
        return self._resting.allowed(trio.current_time(), CONNECTIONS)

    async def _keep_calling(self, posting: Posting) -> None:
        """A caller: one call after the other, while there is one to make and it may be open."""
        while self._ready and self._open <= self._allowed():
            await self._tell(posting, *self._ready.popleft())
        self._open -= 1
        self._news.set()

    def _known(self) -> Webhook | None:
        """As it stands now; None: it is not to be called here any more, and will be ended."""
        stands = self._deps.store.webhooks.now.every.get((self._app, self._name))
        if stands is None or not stands.enabled:
            return None
        same = (stands.id, stands.url) == (self.webhook.id, self.webhook.url)
        return stands if same else None

    async def _tell(self, posting: Posting, due: Due, body: bytes, trace: str) -> None:
        began, at_ms = trio.current_time(), self._deps.clock()
        answer = await posting.call(self.webhook, due.event.id, at_ms, body)
        now = trio.current_time()
        latency_ms = round((now - began) * 1000)
        event = due.event
        tried = WebhookTry(
            event.id,
            event.type,
            at_ms,
            due.tries + 1,
            latency_ms,
            answer.status,
            answer.text,
            answer.error,
        )
        if tried.succeeded:
            self._resting.succeeded()
        else:
            self._resting.failed(began, now, answer.status, answer.leave_ms / 1000)
        if trace and (traces := self._deps.store.traces) is not None:
            traces.told(trace, self._app, tried.succeeded, answer.status, latency_ms)
        self._ended.append(EndedCall(due, tried, answer))
        self._deps.metrics.webhook_tried(tried)
        self._news.set()

    # --- Redis ---

    async def _fetch(self) -> None:
        """Takes what is due in hand, where there is room. Raises RedisUnavailable."""
        now, now_ms = trio.current_time(), self._deps.clock()
        if now >= self._look_at:
            await self._look(now_ms)
            self._look_at = now + SEEN_S
        if now < self._fetch_at or not self._has_room or self._resting.until > now:
            return
        self._fetch_at = now + LOOK_S
        if self._known() is None:
            return
        more = False
        with suppress(*RETRYABLE):  # a shard that is away keeps nothing else waiting
            more = await self._recovering.go_on(self.webhook.events)
        redis, id_ = self._deps.redis, self.webhook.id
        found = await webhook_queues.due(redis, id_, now_ms, FETCH)
        if more or len(found) >= FETCH:
            self._fetch_at = now
        fresh = [each for each in found if each.event.id not in self._in_hand]
        if not fresh:
            return
        if any(each.event.type == LOST for each in fresh):
            (state,) = await webhook_queues.states(redis, [id_])
            self._lost = state.lost
        made = await bodies(self._deps.store, [each.event for each in fresh], self._lost)
        for unread, later_ms in ((made.unread, UNREAD_MS), (made.away, AWAY_MS)):
            if later := [each for each in fresh if each.event.id in unread]:
                await webhook_queues.put_off(redis, id_, later, now_ms + later_ms)
        for each in fresh:
            body = made.ready.get(each.event.id)
            if body is not None:
                self._in_hand.add(each.event.id)
                self._ready.append((each, body, made.traced.get(each.event.id, "")))
        forgotten = [each for each in fresh if each.event.id in made.forgotten]
        if forgotten:
            await webhook_queues.note(redis, id_, TryResults((), forgotten, ()), None)

    async def _look(self, now_ms: int) -> None:
        """How it is, and what is kept of it too long. Raises RedisUnavailable."""
        (state,) = await webhook_queues.states(self._deps.redis, [self.webhook.id])
        self.waiting, self._failing_ms = state.waiting, state.failing_ms
        await webhook_queues.cut_tries(self._deps.redis, self.webhook.id, now_ms)
        self._recovering.take(state)

    async def _note(self) -> None:
        """Writes down what calls came to. Raises RedisUnavailable."""
        ended = list(self._ended)
        if not ended:
            return
        told, failing_ms = self._told(ended)
        await webhook_queues.note(self._deps.redis, self.webhook.id, told, failing_ms)
        del self._ended[: len(ended)]
        self._in_hand.difference_update(each.due.event.id for each in ended)
        if failing_ms is not None:
            self._failing_ms = failing_ms or None
        await self._tell_of_lost(told)
        await self._disable_if_dead(ended)

    def _told(self, ended: list[EndedCall]) -> tuple[TryResults, int | None]:
        """What is to be written down, and since when none succeeded: None as it was, 0 one did."""
        done, later, tries = list[Due](), list[tuple[Due, int]](), list[WebhookTry]()
        for due, tried, answer in ended:
            delay_ms = next_delay_ms(due.tries + 1, random.randrange(100), answer.leave_ms)
            if delay_ms is None or tried.succeeded:
                done.append(due)
                tries.append(tried)
            else:
                next_ms = tried.at_ms + tried.latency_ms + delay_ms
                later.append((due, next_ms))
                tries.append(replace(tried, next_ms=next_ms))
        failing_ms = None
        if any(tried.succeeded for tried in tries):
            failing_ms = 0 if self._failing_ms is not None else None
        elif self._failing_ms is None:
            failing_ms = min(tried.at_ms for tried in tries)
        return TryResults(tries, done, later), failing_ms

    async def _tell_of_lost(self, told: TryResults) -> None:
        """What was lost is told once; what is lost meanwhile by an event of its own."""
        if self._lost is None or not any(each.event.type == LOST for each in told.done):
            return
        redis, id_ = self._deps.redis, self.webhook.id
        await outbox.lost_is_told(redis, id_, self._lost)
        self._lost = None

    async def _disable_if_dead(self, ended: list[EndedCall]) -> None:
        gone = any(each.tried.status == GONE_STATUS for each in ended)
        failing = False
        if self._failing_ms is not None:
            # Who enabled it again, or gave it another address, has as long anew.
            since_ms = max(self._failing_ms, self.webhook.updated_ms)
            failing = self._deps.clock() - since_ms >= FAILING_MS
        if not (gone or failing):
            return
        why = GONE if gone else FAILING
        now_ms = self._deps.clock()
        redis = self._deps.redis
        if await webhooks.disable(redis, self._app, self._name, self.webhook, why, now_ms):
            self._deps.metrics.webhooks_disabled.labels(why).inc()
            _log.error(
                "webhook disabled",
                app=self._app,
                webhook=self._name,
                why=why,
                advice="repair the receiver, enable the webhook, and recover what it missed",
            )
        await self._deps.store.webhooks.look(redis)
