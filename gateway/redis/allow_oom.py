"""Commands that are done although the server's memory is full.

Above its limit Redis refuses what may grow, and whatever stands in a MULTI; in a script it refuses
only what comes before the first write. This script begins with one that changes nothing. It is for
those who make room and need a few bytes to do so. Redis 7 has a flag of this name; Redis 6.2 does
not read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.redis.client import Command, RedisClient
from gateway.redis.replies import as_list

# KEYS[1]  a key that never exists
# ARGV     each command as the number of its words, and the words
SOURCE = """\
redis.call('UNLINK', KEYS[1])
local replies, at = {}, 1
while at < #ARGV do
  local last = at + tonumber(ARGV[at])
  replies[#replies + 1] = redis.call(unpack(ARGV, at + 1, last))
  at = last + 1
end
return replies
"""
NEVER = ":never"  # behind the tag of a key, so that the slot is the same


async def call_allowing_oom(redis: RedisClient, commands: Sequence[Command]) -> list[Any]:
    """Does all of them in one round trip; their replies, in order. Raises as `RedisClient.call`."""
    (replies,) = await redis.call([allow_oom(commands)])
    return as_list(replies)


def allow_oom(commands: Sequence[Command]) -> Command:
    """One command that does all of them, in order and with nothing between them; its reply is the
    list of theirs. Their keys are of one slot and bear its tag."""
    key = commands[0][1]
    assert isinstance(key, str)
    words = [word for command in commands for word in (len(command), *command)]
    return ("EVAL", SOURCE, 1, key + NEVER, *words)
