"""Frequency caps hold over every rolling window, and say the first moment one more fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ratelimit.caps import Cap, Slot, check, window_max_ms

WINDOWS = st.integers(1, 100)
CAPS = st.lists(
    st.builds(
        lambda limit, window, category, channel: Cap(
            f"{limit}/{window}/{category}/{channel}",
            limit,
            window,
            f"{window}ms",
            category,
            channel,
        ),
        st.integers(1, 4),
        WINDOWS,
        st.sampled_from([None, "marketing", "otp"]),
        st.sampled_from([None, "viber", "sms"]),
    ),
    max_size=4,
)
REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from(["marketing", "otp"]),
        st.sampled_from(["viber", "sms"]),
    ),
    max_size=30,
)


def admitted(caps: list[Cap], requests: list[tuple[int, str, str]]) -> list[Slot]:
    slots: list[Slot] = []
    now = 1_000
    for index, (wait, category, channel) in enumerate(requests):
        now += wait
        full = check(caps, slots, category, channel, now)
        if full is None:
            slots.append(Slot(str(index), now, category, channel))
        else:
            assert full.count >= full.cap.limit
            assert full.retry_at_ms > now
    return slots


@given(CAPS, REQUESTS)
def test_no_window_of_any_cap_ever_holds_more_than_its_limit(
    caps: list[Cap], requests: list[tuple[int, str, str]]
) -> None:
    slots = admitted(caps, requests)
    for cap in caps:
        times = [s.at_ms for s in slots if cap.counts(s.category, s.channel)]
        for start in times:
            assert sum(start <= at < start + cap.window_ms for at in times) <= cap.limit


@given(CAPS, REQUESTS, st.sampled_from(["marketing", "otp"]), st.sampled_from(["viber", "sms"]))
def test_the_moment_it_names_is_the_first_at_which_one_more_fits(
    caps: list[Cap], requests: list[tuple[int, str, str]], category: str, channel: str
) -> None:
    slots = admitted(caps, requests)
    now = max((s.at_ms for s in slots), default=1_000)
    full = check(caps, slots, category, channel, now)
    if full is None:
        return
    assert check(caps, slots, category, channel, full.retry_at_ms) is None
    assert check(caps, slots, category, channel, full.retry_at_ms - 1) is not None


def test_of_several_full_caps_the_one_that_is_free_last_is_named() -> None:
    day = Cap("day", 1, 100, "1d")
    week = Cap("week", 1, 700, "7d", "marketing")
    slots = [Slot("a", 50, "marketing", "viber")]
    full = check([day, week], slots, "marketing", "sms", 60)
    assert full is not None
    assert (full.cap.name, full.retry_at_ms) == ("week", 750)
    assert check([day, week], slots, "otp", "sms", 160) is None


def test_the_message_that_is_being_moved_does_not_stand_in_its_own_way() -> None:
    cap = Cap("one", 1, 100, "1d")
    slots = [Slot("a", 50, "marketing", "viber")]
    assert check([cap], slots, "marketing", "sms", 60, but="a") is None
    assert check([cap], slots, "marketing", "sms", 60, but="b") is not None


def test_a_slot_is_kept_for_the_longest_window_that_can_count_it() -> None:
    caps = [Cap("a", 1, 100, "", "otp"), Cap("b", 1, 700, ""), Cap("c", 1, 900, "", "marketing")]
    assert window_max_ms(caps, "otp") == 700
    assert window_max_ms(caps, "marketing") == 900
    assert window_max_ms([], "otp") == 0
