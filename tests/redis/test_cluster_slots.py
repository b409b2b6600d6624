"""Which node of a cluster a command is for: every command that is used, as Redis itself sees it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from gateway.redis.address import Endpoint
from gateway.redis.cluster_slots import (
    KEY_AT,
    SLOTS,
    Unit,
    masters_of,
    replies_of,
    slot_of,
    slot_of_command,
    units_of,
)
from gateway.redis.errors import CommandRefused, ErrorReply, OutcomeUnknown, RedisUnavailable
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.store.keys import keys_of

GATEWAY = Path(__file__).parents[2] / "gateway"
# Sent beside commands that have a key, or to the node of a session.
OF_A_CONNECTION = {"MULTI", "EXEC", "UNWATCH", "ASKING", "SCAN", "TIME"}
WITHOUT_ROUTING = {"connect.py", "cluster.py", "openapi.py"}  # of one node, or of HTTP
EXAMPLES = {
    "EVAL": ("EVAL", "return 1", 2, "{a}1", "{a}2", "x"),
    "EVALSHA": ("EVALSHA", "0" * 40, 2, "{a}1", "{a}2", "x"),
    "XGROUP": ("XGROUP", "CREATE", "{a}1", "g", "0"),
    "XINFO": ("XINFO", "CONSUMERS", "{a}1", "g"),
    "XREAD": ("XREAD", "COUNT", 1, "BLOCK", 5, "STREAMS", "{a}1", "{a}2", "0", "0"),
    "XREADGROUP": ("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", "{a}1", ">"),
    "XCLAIM": ("XCLAIM", "{a}1", "g", "c", 0, "1-1"),
    "XPENDING": ("XPENDING", "{a}1", "g", "-", "+", 1),
    "XRANGE": ("XRANGE", "{a}1", "-", "+"),
    "XREVRANGE": ("XREVRANGE", "{a}1", "+", "-"),
    "ZREMRANGEBYRANK": ("ZREMRANGEBYRANK", "{a}1", 0, 1),
}


def commands_written_in(file: Path) -> set[str]:
    """The first words of the tuples that look like commands."""
    return {
        node.elts[0].value
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Tuple)
        and node.elts
        and isinstance(node.elts[0], ast.Constant)
        and isinstance(node.elts[0].value, str)
        and re.fullmatch(r"[A-Z]{3,}", node.elts[0].value)
    }


def test_every_command_the_product_sends_can_be_given_to_a_node() -> None:
    files = [file for file in GATEWAY.rglob("*.py") if file.name not in WITHOUT_ROUTING]
    used = set().union(*map(commands_written_in, files)) - {"POST", "PUT"}
    assert {"XREADGROUP", "MSET", "EVALSHA", "HINCRBY"} <= used
    assert used - KEY_AT.keys() - OF_A_CONNECTION == set()


@pytest.mark.parametrize("name", sorted(KEY_AT))
def test_the_key_stands_where_redis_sees_it(
    name: str, redis_server: EmbeddedRedis, redis_url: str
) -> None:
    with redis.Redis(unix_socket_path=str(redis_server.socket_path)) as client:
        client.response_callbacks.clear()
        ((_, words, *_),) = client.execute_command("COMMAND", "INFO", name)
        shortest = (name, "{a}1", *("1" for _ in range(abs(words) - 2)))
        command = EXAMPLES.get(name, shortest)
        first, *_ = client.execute_command("COMMAND", "GETKEYS", *command)
    assert first == b"{a}1"
    assert slot_of_command(command) == slot_of(first) == key_slot(b"a")


@given(st.text() | st.from_regex(r"[^{}]*\{[^{}]*\}.*"))
def test_a_key_s_slot_is_that_of_redis(key: str) -> None:
    assert slot_of(key) == slot_of(key.encode()) == key_slot(key.encode())


@pytest.mark.parametrize(
    ("key", "same_as"),
    [("{k7}m:1", "k7"), ("foo{bar}{zap}", "bar"), ("foo{{bar}}zap", "{bar"), ("{}a", "{}a")],
)
def test_what_stands_between_the_first_braces_decides(key: str, same_as: str) -> None:
    assert slot_of(key) == slot_of(same_as)


def test_all_keys_of_a_shard_are_of_one_slot() -> None:
    keys = keys_of(11)
    every = [
        keys.message("x"),
        keys.person("p:7"),
        keys.lane("p", "otp"),
        keys.timers,
        keys.token("t"),
    ]
    assert {slot_of(key) for key in every} == {slot_of("k11")}
    assert len({slot_of(keys_of(shard).ledger) for shard in range(16)}) == 16


def test_a_transaction_stays_together_and_everything_else_can_part() -> None:
    units = units_of(
        [
            ("GET", "{k1}a"),
            ("MULTI",),
            ("SET", "{k2}a", 1),
            ("SET", "{k2}b", 1),
            ("EXEC",),
            ("GET", "{k1}b"),
        ]
    )
    assert [len(unit.commands) for unit in units] == [1, 4, 1]
    assert [unit.slot for unit in units] == [slot_of("k1"), slot_of("k2"), slot_of("k1")]


@pytest.mark.parametrize(
    "commands", [[("PING",)], [("MULTI",), ("GET", "a")], [("EXEC",)], [("FLUSHALL",)]]
)
def test_what_belongs_to_no_node_is_a_bug(commands: list[tuple[str, ...]]) -> None:
    with pytest.raises(ValueError):
        units_of(commands)


def unit(reply: object = b"OK", fault: Exception | None = None) -> Unit:
    made = Unit(0, [("GET", "a")])
    made.replies = [reply]
    made.fault = fault  # type: ignore[assignment]
    return made


def test_a_call_of_which_a_part_was_done_is_unknown_and_one_of_which_none_was_is_not() -> None:
    away, lost = RedisUnavailable("It is away."), OutcomeUnknown("It was cut.")
    assert replies_of([unit(b"a"), unit(None)]) == [b"a", None]
    for units in ([unit(fault=away)], [unit(fault=away), unit(fault=away)]):
        with pytest.raises(RedisUnavailable, match="It is away") as raised:
            replies_of(units)
        assert type(raised.value) is RedisUnavailable
    for units in ([unit(), unit(fault=away)], [unit(fault=away), unit(fault=lost)]):
        with pytest.raises(OutcomeUnknown):
            replies_of(units)


def test_a_refused_command_is_named_by_its_place_in_the_whole_call() -> None:
    refused = ErrorReply("WRONGTYPE no")
    fault = CommandRefused("GET", "WRONGTYPE no", 0, [refused])
    with pytest.raises(CommandRefused, match="Redis refused GET: WRONGTYPE no") as raised:
        replies_of([unit(b"a"), unit(refused, fault), unit(b"c")])
    assert raised.value.index == 1
    assert raised.value.replies == [b"a", refused, b"c"]


def test_a_node_without_a_name_is_where_it_was_asked() -> None:
    asked = Endpoint(host="here", port=1)
    answer = [
        [0, 5460, [b"10.0.0.1", 7001, b"id", []], [b"10.0.0.9", 7009, b"id"]],
        [5461, 9000, [b"", 7002, b"id"]],
        [9001, 9002, [None, 7003, b"id"]],
        [9003, SLOTS - 1, [b"?", 7004, b"id"]],
    ]
    assert masters_of(answer, asked) == {
        range(5461): Endpoint(host="10.0.0.1", port=7001),
        range(5461, 9001): Endpoint(host="here", port=7002),
        range(9001, 9003): Endpoint(host="here", port=7003),
        range(9003, SLOTS): Endpoint(host="here", port=7004),
    }
