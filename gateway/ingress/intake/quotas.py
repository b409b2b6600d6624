"""What apps may send: the quotas of `[[apps]]`, asked for before admission.

A request is refused as a whole while its app's rate is spent; a stream waits. What the day has no
room for goes to admission all the same, marked: a duplicate, a suppressed message and a replayed
answer use nothing up, so they are told as ever, and only what would be accepted is refused. What
was spent for messages that were not accepted is given back; one whose answer was lost may have been
accepted, and stays spent. An app without quotas has no `AppQuota`, and costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast

import structlog
from msgspec.structs import replace

from gateway.core.records.request import Answer, MessageRequest
from gateway.ingress.http.problems import Problem, Refusal, problem
from gateway.ingress.intake.batcher import QueueFull
from gateway.ingress.metrics import QuotaMetrics
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisUnavailable
from gateway.redis.script import Script
from gateway.settings.file import Settings
from gateway.store.shared_keys import quota
from ratelimit.quota import SCRIPTS, Quota, Spent

STREAM_PIECE_MAX = 100  # lines of a stream that are paid for together
DAY_S = 86_400

ItemAnswer: TypeAlias = Answer | Problem | Exception

_log = structlog.get_logger("ingress")


class Quotas:
    """The apps that have quotas. `now_ms` is the edge's clock."""

    def __init__(
        self,
        settings: Settings,
        redis: RedisClient,
        metrics: QuotaMetrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._redis = redis
        self._metrics = metrics
        self._now_ms = now_ms
        self._scripts = {name: Script(source) for name, source in SCRIPTS.items()}
        self._apps: dict[str, AppQuota] = {}
        self.take_over(settings)

    def of(self, app: str) -> AppQuota | None:
        return self._apps.get(app)

    def take_over(self, settings: Settings) -> None:
        """The quotas of a changed configuration, from the next request on."""
        self._apps = {
            app.name: AppQuota(
                Quota(
                    self._run,
                    quota(app.name),
                    rate_per_s=app.rate_per_s or 0,
                    day_max=app.day_max or 0,
                ),
                app.name,
                self._metrics,
                self._now_ms,
            )
            for app in settings.apps
            if app.rate_per_s is not None or app.day_max is not None
        }
        self._metrics.show({name: each.limits for name, each in self._apps.items()})

    async def measure(self) -> None:
        """Shows how much of their day the apps have used. Raises RedisUnavailable."""
        names = [name for name, each in self._apps.items() if each.limits[1]]
        if names:
            runs = [self._apps[name].looking for name in names]
            replies = await self._scripts["spend"].call_many(self._redis, runs)
            for name, reply in zip(names, cast("list[list[int]]", replies), strict=True):
                self._metrics.day_used.labels(name).set(Spent(*reply).used)

    async def _run(self, name: str, keys: Sequence[str], args: Sequence[int]) -> Any:
        return await self._scripts[name].call(self._redis, keys, args)


class AppQuota:
    """One app's quotas, as one worker asks for them."""

    def __init__(
        self, limit: Quota, app: str, metrics: QuotaMetrics, now_ms: Callable[[], int]
    ) -> None:
        self._quota = limit
        self._app = app
        self._metrics = metrics
        self._now_ms = now_ms

    @property
    def limits(self) -> tuple[int, int]:
        """The rate a second and the messages a day; 0: none."""
        return self._quota.rate_per_s, self._quota.day_max

    @property
    def looking(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """What `spend` is asked to see how much is used."""
        return self._quota.asking(0)

    @property
    def stream_piece(self) -> int:
        """How many lines of a stream are asked for together: a tenth of a second's."""
        rate = self._quota.rate_per_s
        return min(max(rate // 10, 1), STREAM_PIECE_MAX) if rate else STREAM_PIECE_MAX

    async def spend(self, count: int) -> Spent:
        """Raises RedisUnavailable."""
        spent = await self._quota.spend(count)
        if not spent.wait_us:
            self._metrics.messages.labels(self._app).inc(count)
        return spent

    async def require(self, count: int) -> Spent:
        """Raises Refusal (429) while the rate is spent, and RedisUnavailable."""
        spent = await self.spend(count)
        if spent.wait_us:
            self._metrics.refused.labels(self._app, "rate").inc(count)
            raise self._rate_refusal(count, spent)
        return spent

    async def look(self, request: MessageRequest) -> MessageRequest:
        """The request as it would be asked now, marked where the day has no room for it; nothing is
        spent. Raises Refusal (429) while the rate is spent, and RedisUnavailable."""
        spent = await self._quota.look()
        if spent.wait_us:
            raise self._rate_refusal(1, spent)
        day_max = self._quota.day_max
        return self.over_day(request) if day_max and spent.used >= day_max else request

    async def ask_one(
        self, request: MessageRequest, ask: Callable[[MessageRequest], Awaitable[Answer]]
    ) -> Answer:
        """Has one request answered. Raises Refusal (429) as well, and what `ask` raises."""
        spent = await self.require(1)
        try:
            answer = await ask(request if spent.granted else self.over_day(request))
        except QueueFull:
            await self.give_back(spent, spent.granted)
            raise
        if not is_accepted(answer):
            await self.give_back(spent, spent.granted)
        if answer.outcome == "over_quota":
            self.count_over_day(1)
            raise self.refusal_of_day(answer)
        return answer

    async def ask_many(
        self,
        requests: Sequence[MessageRequest],
        ask: Callable[[Sequence[MessageRequest]], Awaitable[list[ItemAnswer]]],
    ) -> list[ItemAnswer]:
        """Has the requests of an array answered. Raises Refusal (429) of them all and
        RedisUnavailable.

        What the day has no room for is asked for once more where others turned out to need none."""
        spent = await self.require(len(requests))
        room = spent.granted
        answers = await ask([*requests[:room], *map(self.over_day, requests[room:])])
        unused = spent.granted - sum(map(is_accepted, answers))
        while unused and (over := [i for i, each in enumerate(answers) if is_over(each)][:unused]):
            for i, answer in zip(over, await ask([requests[i] for i in over]), strict=True):
                answers[i] = answer
                unused -= is_accepted(answer)
        await self.give_back(spent, unused)
        self.count_over_day(sum(map(is_over, answers)))
        return answers

    async def give_back(self, spent: Spent, unused: int) -> None:
        """While Redis is unavailable it stays spent."""
        try:
            await self._quota.give_back(spent, unused)
        except RedisUnavailable as error:
            _log.debug("quota_not_given_back", app=self._app, reason=str(error))

    def over_day(self, request: MessageRequest) -> MessageRequest:
        """The request as one of which nothing may be accepted."""
        said = (
            f"The app may have {self._quota.day_max} messages accepted a day (UTC), and has. Send "
            f"it again in {self._until_midnight_s()} s."
        )
        return replace(request, over_quota=said)

    def count_over_day(self, count: int) -> None:
        self._metrics.refused.labels(self._app, "day_max").inc(count)

    def refusal_of_day(self, answer: ItemAnswer) -> Refusal:
        """429 until midnight, for what came to `over_quota`."""
        detail = answer.detail if isinstance(answer, Answer) else ""
        return Refusal(problem("day-max", detail), retry_after_s=self._until_midnight_s())

    def _until_midnight_s(self) -> int:
        return DAY_S - self._now_ms() // 1000 % DAY_S

    def _rate_refusal(self, count: int, spent: Spent) -> Refusal:
        told = problem(
            "rate",
            f"The app may send {self._quota.rate_per_s} messages a second, all its requests "
            f"together, and has spent that for now: send the {count} of this request again in "
            f"{spent.wait_us / 1e6:.1f} s.",
        )
        return Refusal(told, retry_after_s=-(-spent.wait_us // 1_000_000))


class StreamQuota:
    """What one stream spends: lines are paid for in pieces ahead, and wait while the rate is
    spent."""

    def __init__(self, app: AppQuota) -> None:
        self._app = app
        self._spent: Spent | None = None
        self._left = 0  # lines that are paid for
        self._unused = 0  # that were paid for, on the day of what was spent last, and not accepted
        self._out = 0  # that are paid for and not answered
        self._piece = app.stream_piece
        self._answered = asyncio.Event()

    def go_by(self, app: AppQuota) -> None:
        """The app's quotas as they stand now; they may change while the stream is open."""
        self._app = app

    @property
    def day(self) -> int:
        """On which the line that was paid for last was."""
        return self._spent.day if self._spent is not None else 0

    async def pay(self, request: MessageRequest) -> MessageRequest:
        """The request as it may be asked, marked where the day has no room for it. Raises
        RedisUnavailable."""
        while not self._left:
            await self._give_back()
            spent = await self._app.spend(self._piece)
            if spent.wait_us:
                await asyncio.sleep(spent.wait_us / 1e6)
                continue
            if spent.day != self.day:
                self._unused = 0
            self._spent, self._left = spent, spent.granted
            self._piece = self._app.stream_piece if spent.granted else 1
            if not spent.granted:
                if not self._out:
                    return self._app.over_day(request)
                self._answered.clear()  # of those on their way some may not need what they have
                await self._answered.wait()
        self._left -= 1
        self._out += 1
        return request

    def note(self, answer: ItemAnswer, request: MessageRequest, day: int) -> None:
        """What became of a line that was paid for that day, or marked. A day that is over gets
        nothing back, and the next one nothing that was not spent on it."""
        if request.over_quota:
            self._app.count_over_day(int(is_over(answer)))
            return
        self._out -= 1
        self._unused += day == self.day and not is_accepted(answer)
        self._answered.set()

    async def close(self) -> None:
        """The stream has ended, and all that it handed over is answered."""
        self._unused += self._left
        self._left = 0
        await self._give_back()

    async def _give_back(self) -> None:
        unused, self._unused = self._unused, 0
        if unused and self._spent is not None:
            await self._app.give_back(self._spent, unused)


def is_accepted(answer: ItemAnswer) -> bool:
    """Whether it used something up: a message that was accepted just now, or may have been."""
    if isinstance(answer, Answer):
        return answer.outcome == "accepted" and not answer.replayed
    return isinstance(answer, Exception) and not isinstance(answer, QueueFull)


def is_over(answer: ItemAnswer) -> bool:
    """Whether it is refused for the day's messages alone."""
    return isinstance(answer, Answer) and answer.outcome == "over_quota"
