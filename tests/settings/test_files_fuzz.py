"""The configuration and the price file, whatever stands in them: read, or refused in sentences."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.settings.file import SettingsError, parse
from gateway.settings.price_file import PricesError, parse_prices

CONFIG = Path(__file__).parents[2] / "config"
SHIPPED = (CONFIG / "kaskad.toml").read_text()
PRICES = "\n".join((CONFIG / "prices.csv").read_text().splitlines()[:8]) + "\n"
BITS = ["[", "]", "{", "}", '"', "'", "=", "\n", ".", "-1", "1e999", "0x", "inf", "nan", "\\u0000"]
BITS += ["9" * 400, "1979-05-27T07:32:00Z", "[[apps]]", "[providers]", "true", ",", ";", "é", "\t"]
WAYS = st.lists(
    st.tuples(
        st.integers(0, 100_000), st.integers(0, 30), st.sampled_from(BITS) | st.text(max_size=8)
    ),
    min_size=1,
    max_size=4,
)


def spoiled(text: str, ways: list[tuple[int, int, str]]) -> str:
    """The text with some stretches replaced."""
    for at, length, by in ways:
        start = at % len(text)
        text = text[:start] + by + text[start + length :]
    return text


def is_a_sentence_a_line(error: Exception) -> None:
    lines = str(error).split("\n")
    assert lines
    assert all(line.strip() for line in lines)
    assert "Traceback" not in str(error)


@settings(max_examples=250)
@given(WAYS)
def test_a_spoiled_configuration_is_read_or_refused(ways: list[tuple[int, int, str]]) -> None:
    try:
        parse(spoiled(SHIPPED, ways), Path("/etc/kaskad.toml"), {}, secrets_required=False)
    except SettingsError as error:
        is_a_sentence_a_line(error)


@settings(max_examples=250)
@given(WAYS)
def test_a_spoiled_price_file_is_read_or_refused(ways: list[tuple[int, int, str]]) -> None:
    try:
        parse_prices(spoiled(PRICES, ways), "EUR")
    except PricesError as error:
        is_a_sentence_a_line(error)


@settings(max_examples=150)
@given(st.text(max_size=200))
def test_any_text_at_all_is_read_or_refused(text: str) -> None:
    for read, refusal in (
        (lambda: parse(text, Path("/etc/kaskad.toml"), {}), SettingsError),
        (lambda: parse_prices(text, "EUR"), PricesError),
    ):
        try:
            read()
        except refusal as error:
            is_a_sentence_a_line(error)


def test_nesting_without_end_is_refused() -> None:
    for text in ("a = " + "[" * 20_000, "a = " + "{b=" * 20_000, "[" + "a." * 50_000 + "b]"):
        try:
            parse(text, Path("/etc/kaskad.toml"), {})
        except SettingsError as error:
            is_a_sentence_a_line(error)
        else:
            raise AssertionError("what nobody can read was taken")
