"""The load generator is held against servers whose behaviour is known to the millisecond."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from bench.load_bodies import messages_of, receipts_of
from bench.load_posts import Posts
from bench.load_spec import LoadFailed, Spec, Tally, percentile
from bench.load_stream import Streams
from gateway.core.phones import parse
from providers.infobip.reports import read_envelope, read_reports

ACCEPTED = b'{"id":"1M80363TA00KCQXFM0GX","outcome":"accepted","status":"queued"}'
SLOW_S = 0.02

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_post(reader: asyncio.StreamReader) -> bytes:
    """The body of one request with Content-Length; raises IncompleteReadError at the end."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
    return await reader.readexactly(length)


def answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def load(spec: Spec, handler: Handler) -> Tally:
    """Runs a load against a server of the test's own."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def run() -> Tally:
        server = await asyncio.start_server(guarded, "127.0.0.1", 0)
        async with server:
            there = msgspec.structs.replace(spec, port=server.sockets[0].getsockname()[1])
            tally = Tally(there)
            work: Posts | Streams
            if there.mode == "stream":
                work = Streams(there, messages_of(there), tally)
            else:
                work = Posts(there, messages_of(there).request, there.messages, tally)
            async with asyncio.timeout(10):
                await work.connect()
                await work.run()
            return tally

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def slow_one_by_one(bodies: list[bytes]) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            bodies.append(await read_post(reader))
            await asyncio.sleep(SLOW_S)
            writer.write(answer(202, ACCEPTED))

    return handle


def test_closed_model_asks_each_message_once_and_waits_for_the_answer() -> None:
    bodies: list[bytes] = []
    spec = Spec(mode="single", port=0, messages=20, connections=2, first=7)
    began_s = time.perf_counter()
    tally = load(spec, slow_one_by_one(bodies))
    took_s = time.perf_counter() - began_s
    phones = [json.loads(body)["to"] for body in bodies]
    assert sorted(phones) == [f"+79{number:09d}" for number in range(7, 27)]
    assert tally.outcomes == {"202": 20}
    # Each request found its connection free, so none was seen to wait for another: one after the
    # other they fit into the time there was. Counted from the start they would be 2.2 s.
    assert sum(tally.latencies_s) <= spec.connections * took_s


def test_open_model_counts_from_when_a_request_was_due_so_that_queueing_shows() -> None:
    spec = Spec(mode="single", port=0, messages=20, connections=1, rate=500.0)
    tally = load(spec, slow_one_by_one([]))
    assert tally.answered == 20
    # 20 arrivals in 40 ms, answered one at a time: the last waited for all before it.
    assert max(tally.latencies_s) > 18 * SLOW_S - 0.04


def test_samples_hold_the_ids_of_accepted_messages() -> None:
    spec = Spec(mode="single", port=0, messages=20, connections=2, samples=5)
    tally = load(spec, slow_one_by_one([]))
    assert [message_id for message_id, _ in tally.samples] == ["1M80363TA00KCQXFM0GX"] * 5


def test_an_answer_in_pieces_is_one_answer() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_post(reader)
            whole = answer(202, ACCEPTED)
            for piece in (whole[:10], whole[10:60], whole[60:]):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)

    tally = load(Spec(mode="single", port=0, messages=5, connections=1), handle)
    assert tally.outcomes == {"202": 5}


def test_a_lost_connection_ends_the_load() -> None:
    async def handle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_post(reader)

    with pytest.raises(LoadFailed, match="closed a connection"):
        load(Spec(mode="single", port=0, messages=5, connections=1), handle)


async def read_chunks(reader: asyncio.StreamReader) -> Any:
    """The lines of a chunked body, chunk by chunk."""
    await reader.readuntil(b"\r\n\r\n")
    while length := int(await reader.readline(), 16):
        yield (await reader.readexactly(length)).splitlines()
        await reader.readexactly(2)


def streamer(swallow: int = 0) -> Handler:
    """Answers every line as it comes, but swallows some of the last."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        count = 0
        async for lines in read_chunks(reader):
            for line in lines:
                count += 1
                outcome = b"duplicate" if json.loads(line)["to"].endswith("5") else b"accepted"
                told = b'{"line":%d,"id":"X","outcome":"%b"}\n' % (count, outcome)
                if count <= 50 - swallow:
                    writer.write(b"%x\r\n%b\r\n" % (len(told), told))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    return handle


def test_a_stream_counts_each_line_by_its_outcome() -> None:
    spec = Spec(mode="stream", port=0, messages=50, connections=1, lines=10, window=20)
    tally = load(spec, streamer())
    assert tally.outcomes == {"accepted": 45, "duplicate": 5}
    assert len(tally.latencies_s) == 50


def test_a_stream_with_a_line_unanswered_is_a_failure() -> None:
    spec = Spec(mode="stream", port=0, messages=50, connections=1, lines=10, window=50)
    with pytest.raises(LoadFailed, match="1 lines unanswered"):
        load(spec, streamer(swallow=1))


def test_a_request_has_the_length_it_declares_and_a_number_the_product_takes() -> None:
    spec = Spec(mode="single", port=80, messages=10, first=999_999_980, users=True, key="k")
    head, _, body = messages_of(spec).request(9).partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(body) in head
    found = json.loads(body)
    assert (found["to"], found["user"]) == ("+79999999989", "u999999989")
    assert parse(found["to"]).country == "RU"


def test_more_persons_than_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="persons"):
        messages_of(Spec(mode="single", port=80, messages=2, first=999_999_999))


def test_receipts_are_what_the_provider_would_send(tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    refs.write_text("\n".join(f'["M{n}.0","7900000000{n}"]' for n in range(5)))
    spec = Spec(mode="receipts", port=80, messages=5, refs=str(refs), per_request=2)
    posts = receipts_of(spec)
    receipts = []
    for post in posts:
        found = read_reports(read_envelope(post.partition(b"\r\n\r\n")[2]).results or [])
        assert found.faults == []
        receipts += found.receipts
    assert len(posts) == 3
    assert [(r.ref, r.status, str(r.cost)) for r in receipts] == [
        (f"M{n}.0", "delivered", "0.0100") for n in range(5)
    ]


def test_the_generator_is_a_process_that_waits_for_the_starting_shot() -> None:
    bare = subprocess.Popen([sys.executable, "-m", "bench.bare"], stdout=subprocess.PIPE)
    try:
        assert bare.stdout is not None
        port = json.loads(bare.stdout.readline())["port"]
        spec = Spec(mode="single", port=port, messages=3_000, samples=3_000)
        told = subprocess.run(
            [sys.executable, "-m", "bench.load"],
            input=msgspec.json.encode(spec) + b"\ngo\n",
            capture_output=True,
            check=True,
        ).stdout.splitlines()
    finally:
        bare.kill()
        bare.communicate()
    assert json.loads(told[0]) == {"ready": True}
    result = json.loads(told[-1])["result"]  # larger than a pipe holds
    assert result["outcomes"] == {"202": 3_000}
    assert len(result["samples"]) == 3_000


def test_a_generator_that_finds_no_server_says_so() -> None:
    spec = msgspec.json.encode(Spec(mode="single", port=1, messages=1))
    ended = subprocess.run(
        [sys.executable, "-m", "bench.load"], input=spec + b"\n", capture_output=True
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"The load generator stopped: ")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(("percent", "value"), [(1, 1), (50, 50), (99, 99), (100, 100)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    assert percentile(range(1, 101), percent) == value
    assert percentile([], percent) == 0
