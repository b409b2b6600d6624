"""The parameters of an address are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qsl

from gateway.ingress.http.problems import refuse

LIMIT_DEFAULT, LIMIT_MAX = 100, 1_000  # items of a page
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
        raise refuse("malformed", "The parameters of the address cannot be read.") from None


def read_page(query: bytes, is_cursor: Callable[[str], bool]) -> PageAsked:
    """The page that an address asks for, where it has no other parameters. Raises Refusal."""
    asked = dict(read_parameters(query, PARAMETERS_MAX))
    limit, cursor = asked.get("limit", str(LIMIT_DEFAULT)), asked.get("cursor", "")
    if (
        not limit.isdecimal()
        or len(limit) > len(str(LIMIT_MAX))
        or not 1 <= int(limit) <= LIMIT_MAX
    ):
        raise refuse("query", f"`limit` is a number from 1 to {LIMIT_MAX}.")
    if cursor and not is_cursor(cursor):
        raise refuse("query", "`cursor` is `next` of the page before.")
    return PageAsked(int(limit), cursor)
