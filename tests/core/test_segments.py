"""Parts: the vectors of the provider notes, and what must hold for every text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import segments
from gateway.core.segments import Segments

SMILE = "\U0001f600"

VECTORS: list[tuple[str, str, tuple[int, ...]]] = [
    ("a" * 160, "gsm7", (160,)),
    ("a" * 161, "gsm7", (153, 8)),
    ("a" * 306, "gsm7", (153, 153)),
    ("a" * 307, "gsm7", (153, 153, 1)),
    ("a" * 159 + "€", "gsm7", (153, 8)),
    ("€" * 80, "gsm7", (160,)),
    ("€" * 81, "gsm7", (152, 10)),
    ("a" * 152 + "[" + "a" * 153, "gsm7", (152, 153, 2)),
    ("a" * 152 + "[" + "a" * 151, "gsm7", (152, 153)),
    ("[" * 76 + "a" + "[" * 76, "gsm7", (153, 152)),
    ("я" * 70, "ucs2", (70,)),
    ("я" * 71, "ucs2", (67, 4)),
    ("я" * 134, "ucs2", (67, 67)),
    ("я" * 135, "ucs2", (67, 67, 1)),
    ("я" * 202, "ucs2", (67, 67, 67, 1)),
    (SMILE * 35, "ucs2", (70,)),
    (SMILE * 36, "ucs2", (66, 6)),
    ("я" * 66 + SMILE + "я" * 66, "ucs2", (66, 67, 1)),
    ("я" * 66 + SMILE + "я" * 65, "ucs2", (66, 67)),
    ("Ç", "gsm7", (1,)),
    ("ç", "ucs2", (1,)),
    ("[я]", "ucs2", (3,)),
    ("", "gsm7", (0,)),
]

NOT_IN_GSM7 = "`çáíóú\u00a0\t’“”«»–—…№я\x1b\x00"
GSM7_ONE = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ÄÖÑÜ§¿äöñüàAZaz"
GSM7_TWO = "\f^{}\\[~]|€"

texts = st.one_of(
    st.text(st.sampled_from("aЯ€[" + SMILE), max_size=400),
    st.text(st.sampled_from("ab€[\f"), max_size=700),
    st.text(max_size=300),
)


@pytest.mark.parametrize(("text", "alphabet", "lengths"), VECTORS)
def test_vectors(text: str, alphabet: str, lengths: tuple[int, ...]) -> None:
    assert segments.count(text) == Segments(alphabet, sum(lengths), len(lengths), lengths)  # type: ignore[arg-type]
    assert segments.parts(text) == len(lengths)


@pytest.mark.parametrize("char", NOT_IN_GSM7)
def test_one_character_outside_gsm7_makes_the_whole_text_ucs2(char: str) -> None:
    assert segments.count("a" * 69 + char).alphabet == "ucs2"


def test_every_character_of_the_basic_table_costs_one_septet_and_of_the_extension_two() -> None:
    assert [segments.count(c).units for c in GSM7_ONE] == [1] * len(GSM7_ONE)
    assert [segments.count(c).units for c in GSM7_TWO] == [2] * len(GSM7_TWO)
    assert {segments.count(c).alphabet for c in GSM7_ONE + GSM7_TWO} == {"gsm7"}


def test_a_lone_surrogate_is_counted_as_one_unit() -> None:
    assert segments.count("a\ud83d") == Segments("ucs2", 2, 1, (2,))


def by_walking(text: str) -> tuple[int, ...]:
    """The rule as it is told: take characters while they fit into the part."""
    gsm7 = all(c in GSM7_ONE or c in GSM7_TWO or (c.isascii() and c.isalnum()) for c in text)
    costs = [2 if (c in GSM7_TWO if gsm7 else c > "\uffff") else 1 for c in text]
    single, part = (160, 153) if gsm7 else (70, 67)
    if sum(costs) <= single:
        return (sum(costs),)
    lengths = [0]
    for cost in costs:
        if lengths[-1] + cost > part:
            lengths.append(0)
        lengths[-1] += cost
    return tuple(lengths)


@given(texts)
def test_jumping_from_border_to_border_equals_walking_the_characters(text: str) -> None:
    assert segments.count(text).lengths == by_walking(text)


@given(texts)
def test_parts_alone_equals_the_full_count_and_the_lengths_add_up(text: str) -> None:
    counted = segments.count(text)
    assert segments.parts(text) == counted.parts == len(counted.lengths)
    assert sum(counted.lengths) == counted.units
    single, part = (160, 153) if counted.alphabet == "gsm7" else (70, 67)
    assert counted.units <= single if counted.parts == 1 else max(counted.lengths) <= part


@given(texts, texts)
def test_a_longer_text_never_needs_fewer_parts(text: str, more: str) -> None:
    assert segments.parts(text + more) >= max(segments.parts(text), segments.parts(more))
