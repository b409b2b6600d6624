"""Which replies are a wish, and which are only replies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.people.stop_words import SHIPPED, STOP, wish_in, words_of


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("STOP", "stop"),
        (" stop!\n", "stop"),
        ("Stop.", "stop"),
        ("ＳＴＯＰ", "stop"),
        ("СТОП", "stop"),
        ("CTOП", "stop"),  # the first letters are Latin
        ("не пишите", "stop"),
        ("Opt-out", "stop"),
        ("Отписаться 🙏", "stop"),
        ("STOPALL", "stop_all"),
        ("stop all", "stop_all"),
        ("стоп всё", "stop_all"),
        ("START", "start"),
        ("Подписка", "start"),
        ("STOP PLEASE", None),
        ("please stop", None),
        ("yes", None),
        ("", None),
        ("🙏", None),
        ("stop" * 50, None),
    ],
)
def test_a_wish_is_exactly_a_word(text: str, wish: str | None) -> None:
    assert wish_in(text, SHIPPED) == wish


def test_other_words_stand_in_place_of_the_shipped_ones() -> None:
    words = words_of(["Genug", "не надо"])
    assert wish_in("genug!", words) == "stop"
    assert wish_in("НЕ НАДО", words) == "stop"
    assert wish_in("STOP", words) is None
    assert wish_in("STOPALL", words) == "stop_all"


def test_a_sign_is_no_word() -> None:
    """Else whoever answers with a smile opts out."""
    words = words_of(["🛑", "...", "стоп"])
    assert wish_in("👍", words) is None
    assert wish_in("?", words) is None
    assert wish_in("", words) is None
    assert wish_in("🛑 стоп", words) == "stop"


@given(word=st.sampled_from(STOP), around=st.text(" .,!?-\n…", max_size=5), upper=st.booleans())
def test_case_spaces_and_punctuation_are_set_aside(word: str, around: str, *, upper: bool) -> None:
    assert wish_in(around + (word.upper() if upper else word) + around, SHIPPED) == "stop"
