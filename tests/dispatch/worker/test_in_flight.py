"""The account of what is under way: whatever happens, in whatever order, it adds up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle as Kept
from hypothesis.stateful import RuleBasedStateMachine, consumes, invariant, multiple, rule

from gateway.dispatch.worker.in_flight import (
    Claiming,
    Doubt,
    InFlight,
    Recording,
    Selection,
    Sending,
    Tokens,
)

SHARDS = 3
COUNTS = st.integers(1, 40)
SHARD = st.integers(0, SHARDS - 1)


class Everything(RuleBasedStateMachine):
    """Every move at any time, beside a plain model of what each thing holds."""

    granted, selections = Kept("granted"), Kept("selections")
    claims, doubted = Kept("claims"), Kept("doubted")
    requests, recordings = Kept("requests"), Kept("recordings")

    def __init__(self) -> None:
        super().__init__()
        self.account = InFlight(SHARDS)
        self.tokens: dict[Tokens, bool] = {}  # whether they are imminent
        self.selected: dict[Selection, int] = {}
        self.claimed: dict[Claiming, tuple[int, int, bool]] = {}
        self.doubts: dict[Doubt, tuple[int, int]] = {}
        self.ready = [0] * SHARDS
        self.sending: dict[Sending, list[int]] = {}
        self.recorded: dict[Recording, tuple[int, int]] = {}

    @rule(target=granted, count=COUNTS)
    def grant(self, count: int) -> Tokens:
        tokens = self.account.grant(count)
        self.tokens[tokens] = False
        return tokens

    @rule(tokens=granted)
    def become_imminent(self, tokens: Tokens) -> None:
        if tokens in self.tokens and not self.tokens[tokens]:
            tokens.become_imminent()
            self.tokens[tokens] = True

    @rule(tokens=consumes(granted))
    def use_tokens(self, tokens: Tokens) -> None:
        tokens.leave()
        del self.tokens[tokens]

    @rule(target=selections, count=st.integers(0, 40))
    def select(self, count: int) -> Selection:
        selection = self.account.select(count)
        self.selected[selection] = count
        return selection

    @rule(selection=consumes(selections))
    def end_selection(self, selection: Selection) -> None:
        selection.leave()
        del self.selected[selection]

    @rule(target=claims, shard=SHARD, count=COUNTS, express=st.booleans())
    def claim(self, shard: int, count: int, express: bool) -> Claiming:
        claim = self.account.claim(shard, count, express=express)
        self.claimed[claim] = shard, count, express
        return claim

    @rule(target=doubted, claim=consumes(claims))
    def fall_into_doubt(self, claim: Claiming) -> Doubt:
        shard, count, _ = self.claimed.pop(claim)
        with claim:
            doubt = claim.fall_into_doubt()
        self.doubts[doubt] = shard, count
        return doubt

    @rule(claim=consumes(claims), share=st.integers(0, 100))
    def succeed(self, claim: Claiming, share: int) -> None:
        shard, count, _ = self.claimed.pop(claim)
        with claim:
            claim.succeed(count * share // 100)
        self.ready[shard] += count * share // 100

    @rule(claim=consumes(claims))
    def end_claim(self, claim: Claiming) -> None:
        claim.leave()
        del self.claimed[claim]

    @rule(doubt=consumes(doubted))
    def end_doubt(self, doubt: Doubt) -> None:
        doubt.leave()
        del self.doubts[doubt]

    @rule(target=requests, share=st.integers(1, 100))
    def request(self, share: int) -> Any:
        counts = [-(-count * share // 100) for count in self.ready]
        if not any(counts):
            return multiple()
        request = self.account.request(
            shard for shard, count in enumerate(counts) for _ in range(count)
        )
        self.ready = [has - count for has, count in zip(self.ready, counts, strict=True)]
        self.sending[request] = counts
        return request

    @rule(target=recordings, request=requests, shard=SHARD, share=st.integers(1, 100))
    def answer(self, request: Sending, shard: int, share: int) -> Any:
        left = self.sending.get(request, [0] * SHARDS)
        count = -(-left[shard] * share // 100)
        if not count:
            return multiple()
        recording = request.answered(shard, count)
        left[shard] -= count
        self.recorded[recording] = shard, count
        return recording

    @rule(request=consumes(requests))
    def end_request(self, request: Sending) -> None:
        request.leave()
        del self.sending[request]

    @rule(target=recordings, shard=SHARD)
    def put_back(self, shard: int) -> Any:
        count, self.ready[shard] = self.ready[shard], 0
        if not count:
            return multiple()
        recording = self.account.put_back(shard, count)
        self.recorded[recording] = shard, count
        return recording

    @rule(recording=consumes(recordings))
    def record(self, recording: Recording) -> None:
        recording.leave()
        del self.recorded[recording]

    @invariant()
    def every_count_is_what_is_held(self) -> None:
        account = self.account
        account.check()
        claims = self.claimed.values()
        assert account.granted == sum(
            t.count for t, imminent in self.tokens.items() if not imminent
        )
        assert account.imminent == sum(t.count for t, imminent in self.tokens.items() if imminent)
        assert account.selecting == sum(self.selected.values())
        assert account.claiming == sum(count for _, count, _ in claims)
        assert account.express == sum(count for _, count, express in claims if express)
        assert account.in_doubt == sum(count for _, count in self.doubts.values())
        assert account.ready == sum(self.ready)
        assert account.sending == sum(map(sum, self.sending.values()))
        assert account.requests == len(self.sending)
        assert account.recording == sum(count for _, count in self.recorded.values())
        for shard in range(SHARDS):
            held = self.ready[shard] + sum(left[shard] for left in self.sending.values())
            held += sum(count for where, count, _ in claims if where == shard)
            held += sum(count for where, count in self.doubts.values() if where == shard)
            held += sum(count for where, count in self.recorded.values() if where == shard)
            assert account.messages_of([shard]) == held
            assert account.claiming_of([shard]) == sum(
                count for where, count, _ in claims if where == shard
            )

    def teardown(self) -> None:
        for under_way in (
            *self.tokens,
            *self.selected,
            *self.claimed,
            *self.doubts,
            *self.sending,
            *self.recorded,
        ):
            under_way.leave()
        for shard, count in enumerate(self.ready):
            if count:
                self.account.put_back(shard, count).leave()
        empty = InFlight(SHARDS)
        ours, theirs = (
            {name: value for name, value in vars(each).items() if name != "_freed"}
            for each in (self.account, empty)
        )
        assert ours == theirs


Everything.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_whatever_happens_it_adds_up = Everything.TestCase


def ready(account: InFlight, count: int) -> InFlight:
    """The same account, with so many ready in the first shard."""
    with account.claim(0, count) as claim:
        claim.succeed(count)
    return account


def leave_twice(recording: Recording) -> None:
    recording.leave()
    recording.leave()


@pytest.mark.parametrize(
    "mistake",
    [
        lambda a: a.grant(0),
        lambda a: [tokens := a.grant(1), tokens.become_imminent(), tokens.become_imminent()],
        lambda a: [tokens := a.grant(1), tokens.leave(), tokens.leave()],
        lambda a: [selection := a.select(1), selection.leave(), selection.leave()],
        lambda a: a.claim(0, 2).succeed(3),
        lambda a: [claim := a.claim(0, 1), claim.fall_into_doubt(), claim.succeed(1)],
        lambda a: [claim := a.claim(0, 1), claim.fall_into_doubt(), claim.fall_into_doubt()],
        lambda a: [doubt := a.claim(0, 1).fall_into_doubt(), doubt.leave(), doubt.leave()],
        lambda a: a.request([0]),
        lambda a: ready(a, 1).request([0]).answered(0, 2),
        lambda a: ready(a, 1).request([0]).answered(1, 1),
        lambda a: a.put_back(0, 1),
        lambda a: leave_twice(ready(a, 1).put_back(0, 1)),
    ],
)
def test_a_move_that_is_not_possible_is_a_bug(mistake: Callable[[InFlight], Any]) -> None:
    with pytest.raises(AssertionError):
        mistake(InFlight(2))


def cancelled_everywhere(account: InFlight) -> None:
    with account.grant(3) as tokens, account.select(2), account.claim(0, 4, express=True):
        tokens.become_imminent()
        with account.request([0] * 5) as request, request.answered(0, 2):
            raise KeyError


def test_what_is_cancelled_leaves_the_account_wherever_it_was() -> None:
    account = InFlight(1)
    ready(account, 5)
    with pytest.raises(KeyError):
        cancelled_everywhere(account)
    account.check()
    assert (account.messages, account.requests, account.express) == (0, 0, 0)
    assert (account.granted, account.imminent, account.selecting) == (0, 0, 0)


@pytest.mark.trio
async def test_who_waits_for_room_hears_of_each_thing_that_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    account = InFlight(1)
    heard = 0

    async def listen() -> None:
        nonlocal heard
        while True:
            await account.wait_freed()
            heard += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await trio.sleep(1)
        ready(account, 2)
        await trio.sleep(1)
        request = account.request([0, 0])
        recording = request.answered(0, 2)
        for ending, count in ((request, 2), (recording, 3), (account.grant(1), 4)):
            ending.leave()
            await trio.sleep(1)
            assert heard == count
        nursery.cancel_scope.cancel()
