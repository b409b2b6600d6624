"""The webhooks of all apps: one hash, read by every process where it changed.

A version number in the hash says whether anything did, as for campaigns, so that what webhooks want
costs a message nothing but a look at what its process knows. A webhook that another version wrote
and this one cannot read is not there for it, and is not changed. Secrets stand as they are, because
calls are signed with them; they are shown by the call that makes them and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from gateway.core.records.webhook import Webhook
from gateway.core.webhooks import Webhooks
from gateway.redis.client import Command, RedisClient, Session
from gateway.redis.replies import as_list, pairs
from gateway.store import randomness, shared_keys
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.transaction import CommitCounts, commit

WEBHOOKS_MAX = 20  # of an app
KEYS = ("queue", "tries", "attempts", "state")

_VERSION = b""  # a field of no webhook: names are not empty
_BETWEEN = "\0"  # an app and a name
_decode = msgspec.json.Decoder(Webhook).decode
_encode = msgspec.json.Encoder().encode


class UnreadableWebhookError(Exception):
    """What another version of Kaskad wrote, and this one cannot read."""


DecideWebhook = Callable[
    [Webhook | None, int], Webhook | None
]  # of how many the app has, as it stands


class KnownWebhooks:
    """What one process knows of them."""

    def __init__(self) -> None:
        self.now = Webhooks()
        self._version: bytes | None = None

    @property
    def ever(self) -> bool:
        """Whether there was one once, as far as is known here."""
        return self._version is not None

    async def look(self, redis: RedisClient) -> None:
        """Reads them where they changed. Raises RedisUnavailable."""
        (version,) = await redis.call([("HGET", shared_keys.WEBHOOKS, _VERSION)])
        if version != self._version:
            (found,) = await redis.call([("HGETALL", shared_keys.WEBHOOKS)])
            told = dict(pairs(as_list(found)))
            self._version = told.pop(_VERSION, None)
            every = {}
            for field, value in told.items():
                with suppress(msgspec.DecodeError, UnicodeDecodeError):
                    app, _, name = field.decode().partition(_BETWEEN)
                    every[app, name] = _decode(value)
            self.now = Webhooks(every)


async def change(
    redis: RedisClient, app: str, name: str, decide: DecideWebhook, deed: Deed
) -> Webhook | None:
    """Puts what `decide` says of a webhook in its place, and notes the deed; None: there is none.
    One that `decide` gives back as it was is left. What waits for one that is no more goes with it.
    Raises RedisUnavailable, UnreadableWebhookError, and what `decide` raises."""
    token = shared_keys.installation_token(randomness.token())
    field = app + _BETWEEN + name
    gone: list[str] = []

    async def attempt(session: Session) -> tuple[list[Command], Webhook | None]:
        _, value, fields = await session.call(
            [
                ("WATCH", token, shared_keys.WEBHOOKS),
                ("HGET", shared_keys.WEBHOOKS, field),
                ("HKEYS", shared_keys.WEBHOOKS),
            ]
        )
        mine = (app + _BETWEEN).encode()
        count = sum(each.startswith(mine) for each in as_list(fields))
        try:
            before = _decode(value) if isinstance(value, bytes) else None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreadableWebhookError from error
        after = decide(before, count)
        gone[:] = [before.id] if before is not None and after is None else []
        if after == before:
            return [], before
        write: Command = ("HDEL", shared_keys.WEBHOOKS, field)
        if after is not None:
            write = ("HSET", shared_keys.WEBHOOKS, field, _encode(after))
        version: Command = ("HINCRBY", shared_keys.WEBHOOKS, _VERSION, 1)
        return [write, version, audit.command(deed, of_app=True)], after

    stands = await commit(redis, token, attempt, CommitCounts())
    for id_ in gone:
        await redis.call([("DEL", *(shared_keys.webhook(id_, what) for what in KEYS))])
    return stands


async def disable(
    redis: RedisClient, app: str, name: str, webhook: Webhook, why: str, now_ms: int
) -> bool:
    """We disable a webhook, unless its app changed it meanwhile; whether we did. Raises
    RedisUnavailable."""
    done = False

    def decide(before: Webhook | None, _count: int) -> Webhook | None:
        nonlocal done
        done = before == webhook and webhook.enabled
        return replace(webhook, enabled=False, why=why, disabled_ms=now_ms) if done else before

    deed = Deed(now_ms, "kaskad", "webhook.disable", f"{app} {name}", why)
    await change(redis, app, name, decide, deed)
    return done
