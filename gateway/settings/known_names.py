"""What stands in the file as it was read, whether or not each part of it is well-formed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def table_of(table: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """A table of the file; an empty one where there is none."""
    value = table.get(group)
    return value if isinstance(value, Mapping) else {}


def none_such(known: Iterable[str]) -> str:
    """The end of a sentence on a name that is not there."""
    names = ", ".join(sorted(known))
    return f"but there is only {names}." if names else "but there is none."
