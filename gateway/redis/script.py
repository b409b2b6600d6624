"""A Lua script called by its digest, and sent whole where a server does not know it yet.

Every node of a cluster learns it by itself. A script must be safe to run twice, since a caller that
got `OutcomeUnknown` may call again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

from gateway.redis.client import Command, RedisClient, RedisReply, Session
from gateway.redis.errors import CommandRefused, ErrorReply

ScriptValue: TypeAlias = bytes | str | int


class Script:
    """One script; `digest` is the SHA-1 that names it in Redis."""

    def __init__(self, source: str | bytes) -> None:
        self._source = source.encode() if isinstance(source, str) else source
        # Redis fixes the algorithm; nothing secret rests on it.
        self.digest = hashlib.sha1(self._source, usedforsecurity=False).hexdigest()

    def command(self, keys: Sequence[ScriptValue], args: Sequence[ScriptValue]) -> Command:
        """The EVALSHA command, for a call of one's own, which may raise with code NOSCRIPT."""
        return ("EVALSHA", self.digest, len(keys), *keys, *args)

    async def call(
        self,
        client: RedisClient | Session,
        keys: Sequence[ScriptValue],
        args: Sequence[ScriptValue],
    ) -> RedisReply:
        """Runs the script once and returns its reply. Raises as `RedisClient.call`."""
        return (await self.call_many(client, [(keys, args)]))[0]

    async def call_many(
        self,
        client: RedisClient | Session,
        runs: Sequence[tuple[Sequence[ScriptValue], Sequence[ScriptValue]]],
    ) -> list[RedisReply]:
        """Runs the script for each (keys, args) in one round trip, two if the server must learn it.

        Only the runs that met NOSCRIPT are sent again, so none takes effect twice.
        """
        commands = [self.command(keys, args) for keys, args in runs]
        try:
            return await client.call(commands)
        except CommandRefused as fault:
            missing = [i for i, reply in enumerate(fault.replies) if _is_noscript(reply)]
            failed = [i for i, reply in enumerate(fault.replies) if isinstance(reply, ErrorReply)]
            if missing != failed:
                raise
            replies = fault.replies
        whole: list[Command] = [("EVAL", self._source, *commands[i][2:]) for i in missing]
        for i, reply in zip(missing, await client.call(whole), strict=True):
            replies[i] = reply
        return replies


def _is_noscript(reply: RedisReply) -> bool:
    return isinstance(reply, ErrorReply) and reply.code == "NOSCRIPT"
