"""The libraries of the extra `archive`: imported when a format needs them, and by no role that
sends."""

from __future__ import annotations

from typing import Any

from gateway.extras import MissingExtra, library

__all__ = ["MissingExtra", "archive_library"]

EXTRA = "archive"


def archive_library(name: str) -> Any:
    """A module of the extra. Raises MissingExtra."""
    return library(name, EXTRA)
