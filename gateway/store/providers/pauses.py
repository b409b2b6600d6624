"""The record of providers that are paused, whatever for: one hash, a field a provider.

Dispatch writes it, ingress when receipts tell of an account's fault, and operators; dispatch,
`/readyz` and `/v1/ops` read it. Of a provider that was renamed (`former` has its earlier names)
what holds stands under each name, for processes that do not know the new one yet. What an operator
does stands in the audit with it. A value that another version wrote and this one cannot read counts
as a pause whose time is over; fields it does not know are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Annotated, NamedTuple

import msgspec

from gateway.backoff import delay_by_age_ms
from gateway.core.holding import is_in_lane
from gateway.core.policy import names_of
from gateway.core.records.message import Message
from gateway.core.webhooks import PAUSED
from gateway.redis.client import Command, RedisClient, Session
from gateway.redis.replies import as_list, pairs
from gateway.store import randomness, shared_keys
from gateway.store.events import outbox
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.transaction import CommitCounts, commit

NOT_RENAMED: Mapping[str, str] = {}
SHOWN_MAX = 1_000  # fields read at once; far above the number of providers
DETAIL_MAX = 300  # characters of the provider's own words

OUTAGE = "outage"  # it cannot be reached, fails, or its answers are lost: the breaker is open
ACCOUNT = "account"  # no credit, a bad key, an IP that is not allowed: told by the provider
REJECTIONS = "rejections"  # nearly all messages are, for a reason that is not the persons'
OPERATOR = "operator"  # somebody said so: it has no probes, and ends when somebody says so
KINDS = (OUTAGE, REJECTIONS, ACCOUNT, OPERATOR)  # a later one takes the place of an earlier one

DELAY_MS_MIN, DELAY_MS_MAX = 5_000, 300_000
OUTAGE_MS_MIN, OUTAGE_MS_MAX = 1_000, 30_000
PROBES_KEPT = 8  # references of the last probes
ADVICE = {
    OUTAGE: "wait: one message is tried after each delay, and all goes on when it is answered",
    REJECTIONS: "repair what the code names (sender, template, route, allow-list); one message is "
    "tried after each delay",
    ACCOUNT: "repair the account; one message is tried after each delay",
    OPERATOR: "`kaskad provider resume` ends it",
}

MOMENT_MAX = 253_402_300_799_999  # the end of the year 9999
PauseMoment = Annotated[int, msgspec.Meta(ge=0, le=MOMENT_MAX)]


class Pause(msgspec.Struct, frozen=True):
    """Why a provider is paused: the fault's code and the provider's own words. `since` and `until`
    are epoch milliseconds; at `until` one message is tried. `by_receipt`: the receipt of one of
    `probes` ends it, because what the provider accepts may be rejected later. `by` is the operator
    of an operator's pause."""

    code: str
    detail: str
    since: PauseMoment
    until: PauseMoment
    kind: str = ACCOUNT  # what a process that knew no kinds wrote
    by_receipt: bool = False
    probes: tuple[str, ...] = ()  # our references, or the provider's ids
    by: str = ""

    @property
    def ends_ms(self) -> int | None:
        """When one message is tried; None: never."""
        return None if self.kind == OPERATOR else self.until


class Trouble(NamedTuple):
    """What is found wrong with a provider. `rest_ms` is how long it wishes to be left alone,
    `by_receipt` whether it was found by receipts."""

    kind: str
    code: str
    detail: str
    rest_ms: int = 0
    by_receipt: bool = False


class Changed(NamedTuple):
    """What stood of a provider's pause, and what stands now."""

    before: Pause | None
    after: Pause | None


DecidePause = Callable[[Pause | None], Pause | None]

UNREADABLE = Pause("unknown", "The reason cannot be read by this version.", 0, 0)
_decode = msgspec.json.Decoder(Pause).decode


def next_delay_ms(pause: Pause, now_ms: int) -> int:
    """How long a pause goes on when its probe did not end it: as long as it has lasted."""
    least, most = DELAY_MS_MIN, DELAY_MS_MAX
    if pause.kind == OUTAGE:
        least, most = OUTAGE_MS_MIN, OUTAGE_MS_MAX
    return delay_by_age_ms(now_ms - pause.since, least, most)


def begun(trouble: Trouble, now_ms: int) -> Pause:
    """The pause that begins with a trouble."""
    pause = Pause(
        trouble.code,
        trouble.detail[:DETAIL_MAX],
        now_ms,
        now_ms,
        trouble.kind,
        trouble.by_receipt,
    )
    return prolonged(pause, now_ms, trouble.rest_ms)


def prolonged(pause: Pause, now_ms: int, rest_ms: int = 0) -> Pause:
    """The pause goes on from now, for `rest_ms` at least; an operator's goes on as it is."""
    if pause.kind == OPERATOR:
        return pause
    until = now_ms + max(next_delay_ms(pause, now_ms), rest_ms)
    return msgspec.structs.replace(pause, until=until)


def outranks(trouble: Trouble, pause: Pause) -> bool:
    """Whether a trouble takes the place of what a provider is paused for. A kind that this version
    does not know is left alone."""
    known = trouble.kind in KINDS and pause.kind in KINDS
    return known and KINDS.index(trouble.kind) > KINDS.index(pause.kind)


async def read(redis: RedisClient, former: Mapping[str, str] = NOT_RENAMED) -> dict[str, Pause]:
    """Every provider that is paused, by its present name. Raises RedisUnavailable."""
    (reply,) = await redis.call([("HGETALL", shared_keys.PAUSED)])
    shown = as_list(reply)[: 2 * SHOWN_MAX]
    found = {name.decode(errors="replace"): _pause(value) for name, value in pairs(shown)}
    under_former = {former[name]: found.pop(name) for name in former if name in found}
    return under_former | found


async def away_of(
    redis: RedisClient, messages: Iterable[Message], former: Mapping[str, str]
) -> Container[str]:
    """The providers that are away, as far as that says something of these messages: where none
    waits in a lane, Redis is not asked. Raises RedisUnavailable."""
    return await read(redis, former) if any(map(is_in_lane, messages)) else ()


async def change(
    redis: RedisClient,
    provider: str,
    decide: DecidePause,
    deed: Deed | None = None,
    *,
    former: Mapping[str, str] = NOT_RENAMED,
) -> Changed:
    """Puts what `decide` says of a provider's pause as it stands in its place: None is no pause.
    Nobody else writes in between, or it is decided again; a `deed` is noted with the change. Raises
    RedisUnavailable."""
    token = shared_keys.installation_token(randomness.token())
    noted = () if deed is None else (audit.command(deed),)
    names = names_of(provider, former)

    async def attempt(session: Session) -> tuple[list[Command], Changed]:
        commands: list[Command] = [
            ("WATCH", token, shared_keys.PAUSED),
            ("HMGET", shared_keys.PAUSED, *names),
        ]
        value = next((each for each in as_list((await session.call(commands))[1]) if each), None)
        before = _pause(value) if isinstance(value, bytes) else None
        after = decide(before)
        if after == before:
            return [], Changed(before, before)
        write: Command = ("HDEL", shared_keys.PAUSED, *names)
        told: list[Command] = []
        if after is not None:
            stands = msgspec.json.encode(after)
            write = ("HSET", shared_keys.PAUSED, *(p for name in names for p in (name, stands)))
            if before is None:
                told = await outbox.about(redis, PAUSED, after.since, _said_of(provider, after))
        return [write, *noted, *told], Changed(before, after)

    return await commit(redis, token, attempt, CommitCounts())


def _said_of(provider: str, pause: Pause) -> dict[str, str]:
    """What webhooks are told of a pause that begins."""
    return {
        "provider": provider,
        "kind": pause.kind,
        "code": pause.code,
        "detail": pause.detail,
        "by": pause.by,
    }


async def hold(
    redis: RedisClient,
    provider: str,
    reason: str,
    by: str,
    now_ms: int,
    former: Mapping[str, str] = NOT_RENAMED,
) -> Changed:
    """An operator pauses a provider, whatever it was paused for. Raises RedisUnavailable."""
    reason = reason[:DETAIL_MAX]
    pause = Pause("held", reason, now_ms, MOMENT_MAX, OPERATOR, by=by)
    deed = Deed(now_ms, by, "provider.pause", provider, reason)
    return await change(redis, provider, lambda _before: pause, deed, former=former)


async def resume(
    redis: RedisClient,
    provider: str,
    reason: str,
    by: str,
    now_ms: int,
    former: Mapping[str, str] = NOT_RENAMED,
) -> Changed:
    """An operator ends a pause, whatever it is for. Raises RedisUnavailable."""
    deed = Deed(now_ms, by, "provider.resume", provider, reason[:DETAIL_MAX])
    return await change(redis, provider, lambda _before: None, deed, former=former)


async def delete(redis: RedisClient, provider: str) -> None:
    """Ends a pause; one that is not there is none. Raises RedisUnavailable."""
    await redis.call([("HDEL", shared_keys.PAUSED, provider)])


async def rename(redis: RedisClient, former: Mapping[str, str]) -> None:
    """Pauses of earlier names go on under the present ones too, where they stand when those names
    leave the configuration. They were moved: a dispatcher that had only the former name sent by a
    provider that somebody had paused. Raises RedisUnavailable."""
    if not former:
        return
    (values,) = await redis.call([("HMGET", shared_keys.PAUSED, *former)])
    assert isinstance(values, list)
    for name, value in zip(former.values(), values, strict=True):
        if value is not None:
            await redis.call([("HSETNX", shared_keys.PAUSED, name, value)])


def _pause(value: bytes) -> Pause:
    try:
        return _decode(value)
    except msgspec.DecodeError:
        return UNREADABLE
