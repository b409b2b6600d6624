"""A provider as dispatch uses it, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from providers.contract import Refused, Submitted, Throttled, Unknown
from providers.http.adapter import Reply
from providers.http.client import HttpProvider
from tests.worlds.provider_examples import (
    ROWS,
    Row,
    Verdict,
    config,
    infobip_answer,
    infobip_log,
    reply,
    submission,
)
from tests.worlds.raw_server import Peer, ok, serving

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-provider.md"
every_provider = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind)


@asynccontextmanager
async def provider(row: Row, *answers: bytes, **changes: object) -> AsyncIterator[HttpProvider]:
    left = list(answers)

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.say(left.pop(0))

    async with serving(script) as server:
        made = HttpProvider(
            config(row.kind, base_url=server.base_url, **changes), row.adapter(**changes)
        )
        yield made
        await made.aclose()
        assert left == []


def _written(answer: Reply) -> bytes:
    head = b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n"
    return head % (answer.status, len(answer.body)) + answer.body


@every_provider
async def test_a_batch_is_delivered_and_its_outcomes_come_back(row: Row) -> None:
    batch = [submission("a"), submission("b")]
    verdicts: list[Verdict] = ["accepted", "permanent"]
    told = list(zip(batch, verdicts, strict=True))
    parts = [told] if row.takes_many else [told[:1], told[1:]]
    async with provider(row, *(_written(row.replied(part)) for part in parts)) as made:
        outcomes = [each for part in parts for each in await made.deliver([s for s, _ in part])]
        first, second = outcomes
        assert isinstance(first, Submitted)
        assert isinstance(second, Refused)


@every_provider
async def test_a_refusal_of_the_whole_is_raised(row: Row) -> None:
    busy = b"HTTP/1.1 429 Slow down\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
    async with provider(row, busy, ok(b"not a good answer")) as made:
        with pytest.raises(Throttled) as raised:
            await made.deliver([submission("a")])
        assert raised.value.retry_after_ms == 2000
        with pytest.raises(Unknown):
            await made.deliver([submission("a")])


@every_provider
def test_the_smaller_of_the_two_batch_limits_counts(row: Row) -> None:
    for batch in (50, 10**9):
        made = HttpProvider(config(row.kind, batch=batch), row.adapter())
        assert made.batch_max == min(batch, row.adapter().batch_max)


@pytest.mark.parametrize("count", [0, 1, 30, 31, 65])
async def test_a_look_up_of_any_size_is_asked_in_steps(count: int) -> None:
    refs = [f"m-{i}" for i in range(count)]
    asked: list[str] = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            ids = parse_qs(urlsplit(request.split(b" ")[1].decode()).query)["messageId"]
            asked.extend(ids)
            assert len(ids) <= 30
            await peer.say(ok(infobip_log([(ref, "delivered") for ref in ids])))

    async with serving(script) as server:
        made = HttpProvider(config("infobip-sms", base_url=server.base_url), ROWS[0].adapter())
        found = await made.look_up(refs)
        await made.aclose()
    assert asked == refs
    assert [receipt.ref for receipt in found] == refs


def test_a_batch_of_the_maximum_is_read_within_the_bounds_of_an_answer() -> None:
    from providers.http.reply_reader import BODY_BYTES_MAX

    batch = [submission(f"{i:064d}") for i in range(ROWS[0].adapter().batch_max)]
    answer = infobip_answer([(sent, "accepted") for sent in batch])
    assert len(answer) < BODY_BYTES_MAX
    assert len(ROWS[0].adapter().outcomes(batch, reply(200, answer))) == len(batch)
