"""Starts a dispatcher, keeps its parts together, and stops it in order.

It opens Redis clients and providers, runs the tree of tasks, and hears signals. A part that fails
for a reason nobody foresaw ends the dispatcher, loudly: what it held is taken over by the others or
by its next start. An unavailable Redis ends nothing.
"""

from __future__ import annotations

import secrets
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import structlog
import trio

from gateway import hangup, memory, telemetry
from gateway.core.records.message import Message
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.heartbeat import Heartbeat, keep_beating
from gateway.dispatch.jobs import (
    cancelling,
    ending,
    events,
    feeder,
    lines,
    measuring,
    receipts,
    recovery,
    removed_providers,
    timers,
    unmatched_receipts,
)
from gateway.dispatch.jobs.look_ups import LookUps
from gateway.dispatch.metrics import DispatchMetrics
from gateway.dispatch.pauses import Pauses
from gateway.dispatch.rates import Rates
from gateway.dispatch.redis_retry import RETRYABLE
from gateway.dispatch.webhooks import desk
from gateway.dispatch.worker.worker import ProviderWorker
from gateway.redis.client import LIMITS_DEFAULT, Limits
from gateway.redis.script import Script
from gateway.redis.trio_driver import open_client
from gateway.settings import bootstrap
from gateway.settings.changes import Configuration
from gateway.settings.file import Settings
from gateway.store.installation import snapshots
from gateway.store.providers import pauses as stored_pauses
from gateway.store.redis_clock import RedisClock
from gateway.store.store import Store
from gateway.store.waiting import lanes
from gateway.traces import open_traces
from ratelimit.limiter import SCRIPTS, RunScript

FAREWELL_S = 1.0  # for what Redis is told at the end
WAKE_UPS_A_SHARD = 2  # sessions of a provider's lanes that wait for something new
SESSIONS_EXTRA = 16  # beside those that wait at lanes

_log = structlog.get_logger("dispatch")


def run(
    settings: Settings,
    *,
    ready: Callable[[], None] | None = None,
    beat: Callable[[], None] | None = None,
    read: Callable[[], Settings] | None = None,
    restored_ms: int = 0,
) -> None:
    """Dispatches until SIGTERM or SIGINT; `ready` is called once the lanes are worked on, `beat`
    every BEAT_S from then on. On SIGHUP `read` gives the settings as they are now; None: they never
    change. `restored_ms`: when the data was restored from a backup, if it ever was.

    Needs a Redis whose address is in `settings.redis.url`. Raises ConfigurationError for settings
    that cannot be used; a second signal ends the wait for what is under way.
    """
    prices = bootstrap.load_prices(settings)
    policy = bootstrap.policy_of(settings, prices)
    configuration = Configuration(settings, policy, read or (lambda: settings), prices)
    trio.run(_run, configuration, ready, beat, restored_ms)


async def _run(
    configuration: Configuration,
    ready: Callable[[], None] | None,
    beat: Callable[[], None] | None,
    restored_ms: int,
) -> None:
    settings, policy = configuration.settings, configuration.policy
    shards = settings.redis.shards
    registries = telemetry.new_registries()
    process = telemetry.process_name("dispatch")
    wake_ups = Limits(sessions_max=max(len(settings.providers) * shards * WAKE_UPS_A_SHARD, 1))
    sessions = sum(provider.connections for provider in settings.providers.values())
    limits = Limits(sessions_max=max(sessions, LIMITS_DEFAULT.sessions_max) + SESSIONS_EXTRA)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_client(settings.redis.url, limits))
        clock = RedisClock()
        await clock.try_to_look(redis)
        wake_up_link = await stack.enter_async_context(open_client(settings.redis.url, wake_ups))
        providers = {}
        for name in settings.providers:
            providers[name] = bootstrap.connect_provider(settings, name)
            stack.push_async_callback(providers[name].aclose)

        async def publish() -> None:
            snapshot = telemetry.snapshot(registries, process)
            await snapshots.publish(redis, process, snapshot, clock.now_ms())

        changed, changes = trio.open_memory_channel[Configuration](0)
        deps = DispatchDeps(
            store=Store(
                redis,
                policy,
                shards=shards,
                retention=bootstrap.retention_of(settings),
                restored_ms=restored_ms,
                log_messages=settings.log.messages,
            ),
            wake_up_link=wake_up_link,
            providers=providers,
            clock=clock.now_ms,
            # A restart under the same process id must not pass for the one that died.
            consumer=f"{process}-{secrets.token_hex(4)}",
            metrics=DispatchMetrics(registries),
            terms=settings.lanes,
            stopping=trio.Event(),
            publish=publish,
            changes=changes,
            webhook_hosts=frozenset(settings.webhooks.allow_hosts),
            schedules=frozenset(each.name for each in settings.reports.schedule),
        )
        registries.own.register(deps.store.outcomes)
        traced = settings.traces
        deps.store.traces = stack.enter_context(
            open_traces(traced.endpoint, traced.sample, "dispatch")
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(_hear_signals, deps.stopping, nursery.cancel_scope)
            await nursery.start(_hear_hang_ups, configuration, changed)
            nursery.start_soon(clock.keep_looking, redis, trio.sleep)
            async with trio.open_nursery() as working:
                await working.start(dispatch, deps)
                memory.freeze()
                if ready is not None and not deps.stopping.is_set():
                    ready()
                if beat is not None:
                    nursery.start_soon(keep_beating, beat)
            nursery.cancel_scope.cancel()
        await _say_farewell(snapshots.withdraw(redis, process))


async def _hear_signals(
    stopping: trio.Event,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The first signal asks for an orderly stop, the second for one at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if stopping.is_set():
                _log.warning("stopping at once", signal=signal.Signals(number).name)
                scope.cancel()
                return
            _log.info("stopping", signal=signal.Signals(number).name)
            stopping.set()


async def _hear_hang_ups(
    configuration: Configuration,
    changed: trio.MemorySendChannel[Configuration],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Each SIGHUP reads the configuration again; a sound one is passed on."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        hangup.release()
        task_status.started()
        try:
            async for _number in signals:
                if await trio.to_thread.run_sync(configuration.take_over):
                    await changed.send(configuration)
        finally:
            hangup.hold()


async def _take_changes_over(deps: DispatchDeps, rates: Rates) -> None:
    assert deps.changes is not None
    async for configuration in deps.changes:
        deps.store.policy = configuration.policy
        for name, provider in deps.providers.items():
            bootstrap.reconfigure_provider(configuration.settings, name, provider)
        tables = configuration.settings.providers
        rates.configure({name: int(table.rate_per_s) for name, table in tables.items()})
        _log.info("configuration_taken_over")


async def dispatch(
    deps: DispatchDeps, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Works until `deps.stopping` is set and what was under way is recorded, or its deadline
    passed.

    Started once Redis has taken the proof of life. Cancelled it stops like a process that is
    killed: nothing is put back, and the next dispatcher takes over.
    """
    scripts = {name: Script(source) for name, source in SCRIPTS.items()}

    async def run_script(name: str, keys: Sequence[str], args: Sequence[int]) -> Any:
        return await scripts[name].call(deps.redis, keys, args)

    heartbeat, pauses, rates = deps.heartbeat(), Pauses(deps), Rates(deps)
    if not await _reach_redis(deps, heartbeat, pauses, rates):
        task_status.started()
        return
    look_ups = {
        name: LookUps(deps, provider, pauses)
        for name, provider in deps.providers.items()
        if provider.can_look_up
    }
    working = [
        ProviderWorker(deps, provider, run_script, pauses, heartbeat)
        for name, provider in deps.providers.items()
        if not deps.store.policy.provider(name).retired
    ]
    rates.bind({worker.name: worker.limiter for worker in working})
    async with trio.open_nursery() as background:
        background.start_soon(rates.run)
        if deps.changes is not None:
            background.start_soon(_take_changes_over, deps, rates)
        _start_background(background, deps, working, look_ups, heartbeat, pauses, run_script)
        task_status.started()
        _log.info("dispatching", consumer=deps.consumer, providers=list(deps.providers))
        in_time = await _work(deps, working)
        background.cancel_scope.cancel()
    await _say_farewell(_give_back(working, unanswered=not in_time))
    await _say_farewell(lanes.retire(deps.redis, deps.consumer))


def _start_background(
    nursery: trio.Nursery,
    deps: DispatchDeps,
    working: Sequence[ProviderWorker],
    look_ups: dict[str, LookUps],
    heartbeat: Heartbeat,
    pauses: Pauses,
    run_script: RunScript,
) -> None:
    def ask(message: Message) -> None:
        asked = look_ups.get(message.step.candidate.provider)
        if asked is not None:
            asked.add(message)

    nursery.start_soon(heartbeat.run)
    nursery.start_soon(pauses.run)
    nursery.start_soon(removed_providers.run, deps)
    nursery.start_soon(lines.run, deps, working)
    nursery.start_soon(measuring.run, deps, working)
    nursery.start_soon(feeder.look, deps)
    nursery.start_soon(desk.run, deps)
    held = {worker.name: worker.capacity.hold_places for worker in working}
    for name, provider in deps.providers.items():
        nursery.start_soon(receipts.run, deps, provider, held.get(name))
    for asked in look_ups.values():
        nursery.start_soon(asked.run)
    for shard in range(deps.store.shards):
        nursery.start_soon(timers.run, deps, shard, ask, pauses)
        nursery.start_soon(unmatched_receipts.run, deps, shard)
        nursery.start_soon(events.run, deps, shard)
        nursery.start_soon(feeder.run, deps, shard, run_script)
        nursery.start_soon(cancelling.run, deps, shard)
        nursery.start_soon(ending.run, deps, shard)
        for worker in working:
            nursery.start_soon(recovery.run, deps, worker, shard)


async def _give_back(working: Sequence[ProviderWorker], *, unanswered: bool) -> None:
    """Leaves nothing behind that others would take over as a dead dispatcher's."""
    for worker in working:
        await worker.reader.leave(unanswered=unanswered)


async def _work(deps: DispatchDeps, working: Sequence[ProviderWorker]) -> bool:
    """Runs the workers; once stopping, for `stop_within_ms` at most. Whether they ended by
    themselves."""
    async with trio.open_nursery() as nursery:
        for worker in working:
            nursery.start_soon(worker.run)
        await deps.stopping.wait()
        nursery.cancel_scope.deadline = trio.current_time() + deps.terms.stop_within_ms / 1000
    if nursery.cancel_scope.cancelled_caught:
        _log.warning("stopped with requests unanswered: others will ask the provider about them")
    return not nursery.cancel_scope.cancelled_caught


async def _reach_redis(
    deps: DispatchDeps, heartbeat: Heartbeat, pauses: Pauses, rates: Rates
) -> bool:
    """Proves life and learns of pauses and rates; False when told to stop before Redis answered."""
    retry = deps.redis_retry("start")
    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            await deps.stopping.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(give_up)
        await retry.until_done(heartbeat.beat)
        former = deps.store.policy.former
        await retry.until_done(lambda: stored_pauses.rename(deps.redis, former))
        await retry.until_done(pauses.refresh)
        await retry.until_done(rates.refresh)
        await retry.until_done(lambda: deps.store.look_at_campaigns(deps.clock()))
        nursery.cancel_scope.cancel()
    return not deps.stopping.is_set()


async def _say_farewell(said: Awaitable[None]) -> None:
    with trio.move_on_after(FAREWELL_S):
        try:
            await said
        except RETRYABLE as error:
            _log.warning(
                "redis is unavailable at the end: what it holds of us lapses", reason=str(error)
            )
