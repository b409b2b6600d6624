"""Reading what changes while a test looks on."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def now(attribute: T) -> T:
    """What it is given. mypy takes a bare attribute to stay what a test has asserted of it."""
    return attribute
