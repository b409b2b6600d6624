"""What every push service's port must do; a row of `push_examples.ROWS` each."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from providers.contract import (
    NotSent,
    Outcome,
    Provider,
    Refused,
    SendFault,
    Submitted,
    Throttled,
    Unknown,
)
from providers.registry import KINDS
from tests.worlds.push_examples import ROWS, Answer, PushRow, to_devices
from tests.worlds.raw_server import Peer, Server, serving
from tests.worlds.simulated import answers_of

every_service = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind)
TOKEN = b'{"access_token":"at-1","expires_in":3599,"token_type":"Bearer"}'


def whole(answer: Answer) -> bytes:
    status, body, headers = answer
    lines = [b"HTTP/1.1 %d Said" % status, b"Content-Length: %d" % len(body)]
    lines += [f"{name}: {value}".encode() for name, value in headers]
    return b"\r\n".join([*lines, b"", body])


class Service(Server):
    """A service that answers each device as the test says; it gives out access tokens too."""

    def __init__(self, row: PushRow, answer: Callable[[int], Answer | None]) -> None:
        self.row = row
        self.answer = answer
        self.asked: Counter[int] = Counter()

    async def script(self, peer: Peer) -> None:
        while request := await peer.request():
            if request.startswith(b"POST /token "):
                await peer.say(whole((200, TOKEN, ())))
                continue
            device = self.row.devices_in(request)
            self.asked[device] += 1
            answer = self.answer(device)
            if answer is None:
                return  # hangs up
            await peer.say(whole(answer))


@asynccontextmanager
async def connected(
    row: PushRow, folder: Path, answer: Callable[[int], Answer | None]
) -> AsyncIterator[tuple[Provider, Service]]:
    service = Service(row, answer)
    async with serving(service.script) as server:
        provider = row.provider(server.base_url, folder)
        yield provider, service
        await provider.aclose()


async def came_to(
    row: PushRow, folder: Path, answers: Sequence[Answer | None]
) -> Outcome | SendFault:
    """What a message to as many devices comes to, each answered with one of these."""
    async with connected(row, folder, lambda device: answers[device]) as (provider, service):
        (met,) = await answers_of(provider, [to_devices(row, *range(len(answers)))])
        assert set(service.asked) == set(range(len(answers))), "all are tried"
        return met


def test_every_kind_that_reaches_devices_has_a_row() -> None:
    kinds = {name for name, kind in KINDS.items() if kind.channel == "push"}
    assert {row.kind for row in ROWS} == kinds


@every_service
async def test_what_is_accepted_is_delivered(row: PushRow, tmp_path: Path) -> None:
    assert await came_to(row, tmp_path, [row.accepted]) == Submitted("m-1.0", delivered=True)


@every_service
async def test_a_device_that_is_gone_is_named(row: PushRow, tmp_path: Path) -> None:
    outcome = await came_to(row, tmp_path, [row.gone])
    assert isinstance(outcome, Refused)
    assert (outcome.fault.permanent, outcome.unreachable) == (True, True)
    assert outcome.gone == (row.device(0),)


@every_service
async def test_who_a_refusal_speaks_of(row: PushRow, tmp_path: Path) -> None:
    content = await came_to(row, tmp_path, [row.content])
    assert isinstance(content, Refused)
    assert (content.about, content.fault.permanent) == ("message", True)
    assert (content.unreachable, content.gone) == (False, ())
    account = await came_to(row, tmp_path, [row.account])
    assert isinstance(account, Refused)
    assert (account.about, account.fault.permanent) == ("account", True)


@every_service
async def test_every_fault_of_a_request_keeps_its_stage(row: PushRow, tmp_path: Path) -> None:
    for answer, kind in row.faults:
        met = await came_to(row, tmp_path, [answer])
        assert type(met) is kind, answer
        assert isinstance(met, SendFault)
        assert met.code
        assert met.detail


@every_service
async def test_a_wish_to_wait_is_passed_on(row: PushRow, tmp_path: Path) -> None:
    answer, wait_ms = row.wish
    met = await came_to(row, tmp_path, [answer])
    assert isinstance(met, Throttled)
    assert met.retry_after_ms == wait_ms


@every_service
async def test_an_answer_that_is_lost_is_unknown(row: PushRow, tmp_path: Path) -> None:
    assert isinstance(await came_to(row, tmp_path, [None]), Unknown)


@every_service
async def test_the_first_device_delivers_and_all_are_tried(row: PushRow, tmp_path: Path) -> None:
    answers = [row.gone, row.accepted, row.faults[0][0], row.accepted, row.gone]
    outcome = await came_to(row, tmp_path, answers)
    assert isinstance(outcome, Submitted)
    assert outcome.delivered
    assert set(outcome.gone) == {row.device(0), row.device(4)}


@every_service
async def test_a_lost_answer_counts_before_what_was_refused(row: PushRow, tmp_path: Path) -> None:
    met = await came_to(row, tmp_path, [row.gone, None, row.content, row.account])
    assert isinstance(met, Unknown)
    assert met.gone == (row.device(0),), "it is not sent again, so nobody would learn it now"


@every_service
async def test_a_message_is_tried_again_where_nobody_has_it(row: PushRow, tmp_path: Path) -> None:
    assert isinstance(await came_to(row, tmp_path, [row.gone, row.wish[0]]), Throttled)


@every_service
async def test_a_person_is_not_reached_when_every_device_is_gone(
    row: PushRow, tmp_path: Path
) -> None:
    outcome = await came_to(row, tmp_path, [row.gone, row.gone])
    assert isinstance(outcome, Refused)
    assert outcome.unreachable
    assert set(outcome.gone) == {row.device(0), row.device(1)}
    outcome = await came_to(row, tmp_path, [row.gone, row.content])
    assert isinstance(outcome, Refused)
    assert (outcome.about, outcome.unreachable) == ("message", False)
    assert outcome.gone == (row.device(0),)


@every_service
async def test_a_service_that_is_away_has_nothing(row: PushRow, tmp_path: Path) -> None:
    async with serving(_nobody) as server:
        base_url = server.base_url
    provider = row.provider(base_url, tmp_path)
    with pytest.raises(NotSent):
        await provider.deliver([to_devices(row, 0)])
    await provider.aclose()


async def _nobody(peer: Peer) -> None:
    """Never called."""


@every_service
async def test_a_person_without_a_device_of_the_service_is_refused(
    row: PushRow, tmp_path: Path
) -> None:
    others: Iterable[PushRow] = (each for each in ROWS if each is not row)
    strange = tuple(each.device(1) for each in others)
    provider = row.provider("http://127.0.0.1:9", tmp_path)
    for devices in ((), strange):
        (outcome,) = await provider.deliver([to_devices(row, devices=devices)])
        assert isinstance(outcome, Refused)
        assert (outcome.fault.code, outcome.unreachable) == ("no_device", False)
    await provider.aclose()


@every_service
async def test_what_takes_messages_one_by_one_is_asked_for_nothing(
    row: PushRow, tmp_path: Path
) -> None:
    provider = row.provider("http://127.0.0.1:9", tmp_path)
    assert (provider.batch_max, provider.can_look_up) == (1, False)

    async def receive(receipts: object, replies: object = (), late: object = ()) -> None:
        raise AssertionError("there are no receipts")

    await provider.run(receive)
    with pytest.raises(NotImplementedError):
        await provider.look_up(["m-1.0"])
    await provider.aclose()
