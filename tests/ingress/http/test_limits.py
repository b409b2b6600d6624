"""Requests that two servers would read in two ways: refused, so that none hides inside another."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from tests.ingress.http.test_server import JSON, KEY, Connection, serving
from tests.worlds.ingress_world import OTP

HIDDEN = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = json.dumps(OTP)
HEAD = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\n{KEY}{JSON}"
CHUNKED = "Transfer-Encoding: chunked\r\n"
WHOLE = f"{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n"
AMBIGUOUS = {
    "a length and chunks": f"{HEAD}Content-Length: 4\r\n{CHUNKED}\r\n{WHOLE}{HIDDEN}",
    "chunks and a length": f"{HEAD}{CHUNKED}Content-Length: 4\r\n\r\n{WHOLE}{HIDDEN}",
    "two lengths": f"{HEAD}Content-Length: 0\r\nContent-Length: {len(HIDDEN)}\r\n\r\n{HIDDEN}",
    "a list of lengths": f"{HEAD}Content-Length: 0, {len(HIDDEN)}\r\n\r\n{HIDDEN}",
    "a length with a sign": f"{HEAD}Content-Length: +0\r\n\r\n{HIDDEN}",
    "an encoding nobody knows": f"{HEAD}Transfer-Encoding: xchunked\r\n\r\n{WHOLE}{HIDDEN}",
    "chunked, and then not": f"{HEAD}Transfer-Encoding: chunked, identity\r\n\r\n{WHOLE}{HIDDEN}",
    "a chunk's length in words": f"{HEAD}{CHUNKED}\r\n0x5\r\nhello\r\n0\r\n\r\n{HIDDEN}",
    "a chunk without its end": f"{HEAD}{CHUNKED}\r\n2\r\n{{}}0\r\n\r\n{HIDDEN}",
    "a space before the colon": f"{HEAD}Content-Length : 0\r\n\r\n{HIDDEN}",
    "a folded header": f"{HEAD}X: a\r\n Content-Length: 9\r\n\r\n{HIDDEN}",
    "a bare line feed in the head": f"{HEAD}X: a\nContent-Length: 0\r\n\r\n{HIDDEN}",
    "a bare carriage return": f"{HEAD}X: a\rContent-Length: 0\r\n\r\n{HIDDEN}",
    "a zero byte in a header": f"{HEAD}X: a\x00b\r\n\r\n{HIDDEN}",
}


@pytest.mark.parametrize("text", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_an_ambiguous_request_is_refused_and_the_connection_ends(redis_url: str, text: str) -> None:
    async def talk(port: int) -> None:
        connection = await Connection.open(port)
        connection.say(text)
        told = (await asyncio.wait_for(connection.reader.read(), 5)).decode()
        connection.writer.close()
        answers = re.findall(r"HTTP/1\.1 [0-9]{3} ", told)
        assert len(answers) == 1, "what hid in it was answered"
        assert told.startswith("HTTP/1.1 400 ")

    serving(redis_url, "", talk)


def test_a_chunk_extension_is_no_part_of_the_body(redis_url: str) -> None:
    async def talk(port: int) -> None:
        connection = await Connection.open(port)
        extended = f"{len(BODY):x};a={'x' * 20}\r\n{BODY}\r\n0\r\n\r\n"
        connection.say(f"{HEAD}{CHUNKED}\r\n{extended}{HIDDEN}")
        assert (await connection.answer())[0] == 202
        assert (await connection.answer())[0] == 200  # the next request, in plain sight
        connection.writer.close()

    serving(redis_url, "", talk)
