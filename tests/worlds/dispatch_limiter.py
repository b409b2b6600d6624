"""The rate limit's arithmetic: never above the rate in any second, and nearly all of it used."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ratelimit.limiter import HORIZON_US, Schedule, quantum_of

SECOND = 1_000_000


def most_in_a_second(sends: list[tuple[int, int]]) -> int:
    """The largest number of messages in any stretch of a second, its end excluded."""
    sends = sorted(sends)
    most = first = inside = 0
    for at, count in sends:
        inside += count
        while sends[first][0] <= at - SECOND:
            inside -= sends[first][1]
            first += 1
        most = max(most, inside)
    return most


@settings(max_examples=60)
@given(
    st.sampled_from([1, 2, 7, 39, 40, 100, 500, 3_000]),
    st.sampled_from([1, 10, 100]),
    st.lists(
        st.tuples(
            st.sampled_from([0, 0, 1, 500, 20_000, 400_000]),  # microseconds since the last one
            st.integers(1, 120),  # wanted
            st.sampled_from([0, 0, 0, 1, 50, 100]),  # percent given back
            st.sampled_from([0, 3_000, 50_000]),  # microseconds the caller needs
        ),
        max_size=200,
    ),
)
def test_no_second_holds_more_than_the_rate(
    rate: int, batch: int, calls: list[tuple[int, int, int, int]]
) -> None:
    schedule, now = Schedule(rate, batch), 0
    sends = []
    for gap, wanted, unused_percent, lead in calls:
        now += gap
        grant = schedule.take(wanted, now, lead)
        if not grant.tokens:
            assert grant.wait_us > 0
            now += grant.wait_us
            continue
        unused = grant.tokens * unused_percent // 100
        if unused and not schedule.give_back(grant, unused):
            unused = 0
        assert lead <= grant.wait_us <= HORIZON_US
        sends.append((now + grant.wait_us, grant.tokens - unused))
    assert most_in_a_second(sends) <= rate


@settings(max_examples=15)
@given(
    st.sampled_from([(1, 1), (3, 100), (10, 20), (77, 1), (500, 100), (500, 1), (4_000, 100)]),
    st.lists(st.integers(0, 20_000), min_size=50, max_size=50),
)
def test_four_late_dispatchers_use_97_percent(pace: tuple[int, int], delays: list[int]) -> None:
    rate, batch = pace
    schedule = Schedule(rate, batch)
    span = 20 * SECOND if rate < 100 else 2 * SECOND
    ready = dict.fromkeys(range(4), 0)  # when each asks next
    sent = turn = 0
    while True:
        name = min(ready, key=lambda n: ready[n])
        now = ready[name]
        grant = schedule.take(100, now)
        start = now + grant.wait_us
        if now > span:
            break
        sent += grant.tokens if start < span else 0
        # It asks again while its batch waits for the start, or when it is told to; always late.
        ready[name] = (now if grant.tokens else start) + 1 + delays[turn % len(delays)]
        turn += 1
    assert sent >= int(0.97 * rate * span / SECOND) - quantum_of(rate, batch)


def test_a_grant_that_is_not_the_latest_stays_taken() -> None:
    schedule = Schedule(100, 1)
    first, second = schedule.take(1, 0), schedule.take(1, 0)
    assert not schedule.give_back(first, 1)
    assert schedule.give_back(second, 1)
    assert schedule.take(1, 0).end_us - second.end_us in (0, 1)  # rounded to the later microsecond


def test_nothing_is_granted_while_it_is_held_off() -> None:
    schedule = Schedule(100, 1)
    schedule.hold_off(3_000, 0)
    grant = schedule.take(1, 0)
    assert (grant.tokens, grant.wait_us) == (0, 3_000_000 - HORIZON_US)
    assert schedule.take(1, 3_000_000).wait_us == 0


def test_asked_without_end_it_gives_nearly_the_rate_in_every_second() -> None:
    for rate in (1, 2, 39, 40, 41, 500):
        schedule, now, sends = Schedule(rate, 100), 0, []
        while now < 5 * SECOND:
            grant = schedule.take(100, now)
            if grant.tokens:
                sends.append((now + grant.wait_us, grant.tokens))
            else:
                now += grant.wait_us
        assert 0.97 * rate <= most_in_a_second(sends) <= rate
