"""Every answer names its request: by the caller's id, or by a new one."""

from __future__ import annotations

import pytest

from gateway.ingress.http.request_ids import ID_BYTES_MAX, RequestIds
from tests.worlds.ingress_world import OTP, World, with_ingress


@with_ingress()
async def test_whatever_is_answered_has_the_callers_id(world: World) -> None:
    told = {"x-request-id": "order-7/try-2"}
    answers = [
        await world.send(OTP, **told),
        await world.send({}, **told),
        await world.call("GET", "/v1/nowhere", headers=told),
        await world.call("GET", "/v1/messages/x", headers=told, key="nobody"),
        await world.call("DELETE", "/healthz", headers=told),
        await world.call("GET", "/reports", headers=told, key=""),
        await world.call("POST", "/v1/callbacks/sms", b"", told, key=""),
    ]
    stream = world.stream(**told)
    stream.feed(b"", more=False)
    answers.append(await stream.answer())
    assert [answer.status for answer in answers] == [202, 422, 404, 401, 405, 401, 401, 200]
    assert {answer.headers["x-request-id"] for answer in answers} == {"order-7/try-2"}


@with_ingress()
async def test_an_event_stream_has_an_id(world: World) -> None:
    events = world.begin("GET", "/v1/events", {"x-request-id": "mine"})
    head = await events.event()
    assert (b"x-request-id", b"mine") in head["headers"]
    events.hang_up()
    await events.answer()


@with_ingress()
async def test_without_one_of_the_callers_it_is_a_new_one(world: World) -> None:
    ids = {(await world.send(OTP)).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize("given", [b"", b"a b", b"\xe9", b"x" * (ID_BYTES_MAX + 1), b"a\tb"])
def test_an_id_that_could_spoil_a_header_or_a_log_is_replaced(given: bytes) -> None:
    assert RequestIds().of(given) != given


def test_workers_do_not_give_the_same_ids() -> None:
    assert RequestIds().of(None) != RequestIds().of(None)
