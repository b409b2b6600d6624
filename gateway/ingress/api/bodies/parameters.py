"""The parameters of an address are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qsl

from gateway.ingress.http.problems import refuse

LIMIT_DEFAULT, LIMIT_MAX = 100, 1_000  # items of a page
LIMIT_RULE = f"`limit` is a number from 1 to {LIMIT_MAX}."
PARAMETERS_MAX = 16


class PageAsked(NamedTuple):
    """How many items, and the cursor of the page; "": the first."""

    limit: int
    cursor: str


def read_parameters(query: bytes, most: int, *, keep_blank: bool = False) -> list[tuple[str, str]]:
    """So many names and values, in their order; one without a value only with `keep_blank`. Raises
    Refusal."""
    try:
        return parse_qsl(query.decode("ascii"), keep_blank, max_num_fields=most)
    except ValueError:
        raise refuse("query", "The parameters of the address cannot be read.") from None


def is_limit(text: str) -> bool:
    return text.isdecimal() and len(text) <= len(str(LIMIT_MAX)) and 1 <= int(text) <= LIMIT_MAX


def read_page(query: bytes, is_cursor: Callable[[str], bool]) -> PageAsked:
    """The page that an address asks for, where it has no other parameters. Raises Refusal."""
    asked = dict(read_parameters(query, PARAMETERS_MAX))
    limit, cursor = asked.get("limit", str(LIMIT_DEFAULT)), asked.get("cursor", "")
    if not is_limit(limit):
        raise refuse("query", LIMIT_RULE)
    if cursor and not is_cursor(cursor):
        raise refuse("query", "`cursor` is `next` of the page before.")
    return PageAsked(int(limit), cursor)
