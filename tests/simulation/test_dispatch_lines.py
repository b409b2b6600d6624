"""Apps take turns in a lane: 12,000 messages of one wait and a few of another, in virtual time."""

from __future__ import annotations

import trio

from gateway.core.events import Cancelled
from gateway.store.keys import keys_of
from gateway.store.messages.apply import Item
from tests.simulation.pace import Pace

WAITING = 12_000
RATE = 460  # at which those take the 26 s that were measured on loopback before apps took turns
LOOKED_S = 1.5  # a dispatcher has looked how many lines there are


class TwoApps:
    """A campaign of one app that fills the lane, and what another sends beside it."""

    def __init__(self, **provider: int) -> None:
        fields = {"rate": RATE, "batch": 100} | provider
        self.pace = Pace(0.005, **fields)

    async def fill(self, count: int = WAITING) -> None:
        await self.pace.admit(count, app="shop")

    async def delays_s(self, count: int, every_s: float, **changes: str | None) -> list[float]:
        """How long each of the other app's messages waited for its request."""
        began: dict[str, float] = {}
        for _ in range(count):
            (id_,) = await self.pace.admit(1, **({"app": "bank"} | changes))
            began[id_] = trio.current_time()
            await trio.sleep(every_s)
        await trio.sleep(0.5)
        at = {id_: moment for moment, _, id_ in self.pace.arrived}
        return [at[id_] - moment for id_, moment in began.items()]


def test_anothers_waiting_campaign_costs_a_message_a_turn_and_not_its_length() -> None:
    two = TwoApps()
    delays: list[float] = []

    async def work() -> None:
        await trio.sleep(LOOKED_S)
        await two.fill()
        await trio.sleep(0.1)
        await two.delays_s(1, LOOKED_S)  # its first message ever is seen with its line
        delays.extend(await two.delays_s(10, 0.1))

    two.pace.run(work)
    assert max(delays) < 0.1, "what is claimed goes first, and then it is its turn"


def test_two_campaigns_share_the_rate_in_halves() -> None:
    two = TwoApps()

    async def work() -> None:
        await two.pace.admit(1, app="shop")
        await two.pace.admit(1, app="bank")
        await trio.sleep(2 * LOOKED_S)
        await two.pace.admit(1_200, app="shop")
        small = set(await two.pace.admit(600, app="bank"))
        begin = len(two.pace.arrived)
        await trio.sleep(1.0)
        went = [id_ for _, _, id_ in two.pace.arrived[begin:]]
        share = sum(id_ in small for id_ in went) / len(went)
        assert 0.45 < share < 0.55
        await trio.sleep(4.0)
        assert len(two.pace.arrived) == 1_802, "and all of it is sent"
        assert len({id_ for _, _, id_ in two.pace.arrived}) == 1_802

    two.pace.run(work, dispatchers=2)


def test_a_code_of_one_app_goes_before_the_campaign_of_another_within_milliseconds() -> None:
    two = TwoApps()
    delays: list[float] = []

    async def work() -> None:
        await two.fill(1_500)
        await two.pace.admit(1, app="bank", category="otp", campaign=None)
        await trio.sleep(LOOKED_S)
        delays.extend(await two.delays_s(15, 0.05, category="otp", campaign=None))

    two.pace.run(work)
    assert max(delays) < 0.03


def test_anothers_dead_entries_cost_neither_tokens_nor_a_turn() -> None:
    two = TwoApps(rate=20)

    async def work() -> None:
        await trio.sleep(LOOKED_S)
        dead = await two.pace.admit(400, app="shop")
        await two.pace.store.apply([Item(id_, Cancelled()) for id_ in dead], two.pace.clock())
        live = await two.pace.admit(10, app="bank")
        await trio.sleep(2.0)
        assert [id_ for _, _, id_ in two.pace.arrived] == live

    two.pace.run(work)


def test_what_waits_in_a_lane_of_before_is_sent_with_the_rest() -> None:
    """Ingress of before, or of today while no dispatcher of today runs, has one line a lane."""
    two = TwoApps()

    async def work() -> None:
        await two.fill(200)
        await two.pace.admit(200, app="bank")
        key = keys_of(0).lane("viber", "marketing")
        (length,) = await two.pace.store.redis.call([("XLEN", key)])
        assert length == 400, "both apps' stand in the stream that every version reads"
        async with trio.open_nursery() as nursery:
            await nursery.start(two.pace.dispatch, "d")
            await trio.sleep(LOOKED_S)
            await two.pace.admit(100, app="bank")
            await trio.sleep(LOOKED_S)
            nursery.cancel_scope.cancel()
        assert len({id_ for _, _, id_ in two.pace.arrived}) == len(two.pace.arrived) == 500

    two.pace.run(work, dispatchers=0)


def test_where_there_is_one_app_only_the_lane_of_before_is_written_and_read() -> None:
    two = TwoApps()

    async def work() -> None:
        await trio.sleep(LOOKED_S)
        await two.fill(100)
        await trio.sleep(1.0)
        assert len(two.pace.arrived) == 100
        assert two.pace.store.lines.count == 1
        names = [f"{{k0}}lane:viber:{category}" for category in ("otp", "transactional")]
        found = await two.pace.store.redis.call([("EXISTS", f"{name}:1") for name in names])
        assert found == [0, 0]

    two.pace.run(work)
