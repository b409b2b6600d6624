"""What the port of every kind must do, whichever way it talks; `connected_kinds` has their rows.

The other side is the simulator, whose book says what a provider has and charges.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
import trio

from providers.contract import (
    AccountFault,
    NotSent,
    NotTaken,
    Outcome,
    Receipt,
    Refused,
    SendFault,
    Submitted,
    Throttled,
    Unknown,
)
from providers.registry import KINDS
from tests.worlds.connected_kinds import ROWS, ConnectedRow, World, connected
from tests.worlds.ports import free_port

every_kind = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind)
SOME, MANY = 3, 10


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("keys")).started() as world:
        yield world


@pytest.fixture
def world(started: World) -> World:
    started.forget()
    return started


def test_every_kind_there_is_has_a_row() -> None:
    assert {row.kind for row in ROWS} == set(KINDS)


@every_kind
async def test_messages_are_taken_in_their_order_and_stand_in_the_book(
    row: ConnectedRow, world: World
) -> None:
    async with connected(row, world) as connection:
        outcomes = await connection.sent_all(row.messages(SOME))
    assert [(type(one), one.ref) for one in outcomes if isinstance(one, Submitted)] == [
        (Submitted, f"m-{number}.1") for number in range(SOME)
    ]
    lines = world.simulator.bill().messages.values()
    assert sorted((line.to, line.requests) for line in lines) == [
        (row.named(number), 1) for number in range(SOME)
    ]


@every_kind
async def test_what_arrived_is_said_of_the_message_that_arrived(
    row: ConnectedRow, world: World
) -> None:
    long = "Здравствуйте! " * 12  # of several parts, where there are parts
    messages = [row.message(0), row.message(1, text=long), row.message(2)]
    async with connected(row, world) as connection:
        outcomes = await connection.sent_all(messages)
        receipts = await connection.receipts()
    for outcome in outcomes:
        assert isinstance(outcome, Submitted)
        said = [receipt.status for receipt in receipts if is_of(receipt, outcome)]
        assert (said.count("delivered") > 0) is not outcome.delivered
        assert set(said) <= {"sent", "delivered"}
    assert all(any(is_of(one, outcome) for outcome in outcomes) for one in receipts)


@every_kind
async def test_prices_that_are_told_are_the_ones_that_are_charged(
    row: ConnectedRow, world: World
) -> None:
    price = {"channel": row.channel, "price": "0.0123", "currency": "RUB"}  # as one of them bills
    world.simulator.turn(prices=[price])
    async with connected(row, world) as connection:
        await connection.sent_all(row.messages(SOME))
        receipts = await connection.receipts()
    told = [receipt for receipt in receipts if receipt.status == "delivered"]
    priced = {receipt.ref or receipt.provider_id: receipt.cost for receipt in told if receipt.cost}
    bill = world.simulator.bill()
    assert sum(priced.values(), Decimal(0)) in (0, sum(map(Decimal, bill.charge.values())))
    assert {receipt.currency for receipt in told if receipt.cost} <= set(bill.charge)


@every_kind
async def test_a_person_who_is_refused_costs_the_neighbours_nothing(
    row: ConnectedRow, world: World
) -> None:
    world.simulator.turn(by_phone={row.named(1): {row.channel: {"ending": "rejected"}}})
    async with connected(row, world) as connection:
        first, second, third = await connection.sent_all(row.messages(3))
    assert isinstance(first, Submitted)
    assert isinstance(second, Refused)
    assert isinstance(third, Submitted)
    assert (second.ref, second.fault.permanent) == ("m-1.1", True)
    assert second.fault.code


@every_kind
async def test_another_key_is_a_fault_of_the_account(row: ConnectedRow, world: World) -> None:
    if row.keyless:
        return
    async with connected(row, world, key="another-key") as connection:
        (met,) = await connection.sent(row.messages(1))
    assert isinstance(met, AccountFault)
    assert world.simulator.bill().messages == {}


@every_kind
async def test_a_provider_that_is_busy_has_nothing_and_says_so(
    row: ConnectedRow, world: World
) -> None:
    world.simulator.turn(throttle_share=1.0)
    async with connected(row, world) as connection:
        (met,) = await connection.sent(row.messages(1))
    assert isinstance(met, Throttled | NotTaken | Refused)
    assert not isinstance(met, NotTaken) or met.throttled
    assert not isinstance(met, Refused) or not met.fault.permanent
    assert world.simulator.bill().messages == {}


@every_kind
async def test_an_answer_that_is_lost_leaves_the_message_unknown(
    row: ConnectedRow, world: World
) -> None:
    world.simulator.turn(answer_lost_share=1.0)
    async with connected(row, world, **row.impatient) as connection:
        met = await connection.sent(row.messages(1))
        assert met == [] or [type(one) for one in met] == [Unknown]
        assert [line.requests for line in world.simulator.bill().messages.values()] == [1]
        if connection.port.can_look_up:
            world.simulator.turn(answer_lost_share=0.0)
            await world.told()
            found = await connection.port.look_up(["m-0.1", "m-9.1"])
            assert {receipt.ref for receipt in found} == {"m-0.1"}


@every_kind
async def test_what_is_told_of_while_others_are_open_is_among_the_outcomes(
    row: ConnectedRow, world: World
) -> None:
    world.simulator.turn(answer_ms_min=0, answer_ms_max=1_000)
    told: list[Submitted] = []
    async with connected(row, world) as connection:
        port = connection.port
        outcomes = await port.deliver(row.messages(min(MANY, port.batch_max)), told.extend)
    assert len({one.ref for one in told}) == len(told)
    assert [one for one in told if one not in outcomes] == []


@every_kind
async def test_what_never_arrived_is_not_taken_for_sent(row: ConnectedRow, world: World) -> None:
    world.simulator.turn(lost_share=1.0)
    async with connected(row, world, **row.impatient) as connection:
        met = await connection.sent(row.messages(1))
    assert not any(isinstance(one, Submitted | Refused) for one in met)
    assert world.simulator.bill().messages == {}


@every_kind
async def test_nothing_left_when_nobody_is_there(row: ConnectedRow, world: World) -> None:
    async with connected(row, world, **row.elsewhere(free_port())) as connection:
        (met,) = await connection.sent(row.messages(1))
    assert isinstance(met, NotSent)


@every_kind
async def test_a_port_that_was_cancelled_goes_on(row: ConnectedRow, world: World) -> None:
    async with connected(row, world) as connection:
        await connection.sent(row.messages(1))
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.port.deliver([row.message(1)])
        assert scope.cancelled_caught
        (met,) = await connection.sent([row.message(2)])
    assert isinstance(met, Submitted)


def is_of(receipt: Receipt, outcome: Outcome | SendFault) -> bool:
    """As the store matches them: by our reference first, then by the provider's ids."""
    assert isinstance(outcome, Submitted)
    if receipt.ref == outcome.ref:
        return True
    ids = {outcome.provider_id, *outcome.part_ids} - {None}
    return receipt.provider_id in ids or receipt.ref in ids
