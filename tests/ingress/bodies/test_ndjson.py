"""Lines out of chunks: however the bytes are cut, the same lines, none beyond its limit."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.ingress.api.bodies.ndjson import TOO_LONG, LineSplitter, NdjsonLine

LIMIT = 8


def split(chunks: list[bytes]) -> list[NdjsonLine]:
    splitter = LineSplitter(LIMIT)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return lines + splitter.end()


def expected(body: bytes) -> list[NdjsonLine]:
    *whole, rest = body.split(b"\n")
    lines = [*whole, rest] if rest else whole
    return [line if len(line) <= LIMIT else TOO_LONG for line in lines]


@given(
    st.lists(st.sampled_from([b"", b"a", b"a" * 8, b"a" * 9, b"a" * 30])),
    st.booleans(),
    st.lists(st.integers(0, 120)),
)
def test_lines_do_not_depend_on_how_the_bytes_are_cut(
    lines: list[bytes], newline_at_end: bool, cuts: list[int]
) -> None:
    body = b"\n".join(lines) + (b"\n" if newline_at_end else b"")
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    chunks = [body[a:b] for a, b in pairwise(places)]
    assert split(chunks) == expected(body)


def test_a_line_that_is_too_long_is_known_at_once_and_not_kept() -> None:
    splitter = LineSplitter(LIMIT)
    assert splitter.feed(b"a" * 9) == [TOO_LONG]
    for _ in range(100):
        assert splitter.feed(b"a" * 1000) == []
    assert splitter.pending
    assert splitter.feed(b"a\nb\n") == [b"b"]
    assert not splitter.pending
