"""The libraries of the extra `archive`: imported when a format needs them, and by no role that
sends."""

from __future__ import annotations

import importlib
from typing import Any

from gateway.errors import CallerFault

EXTRA = "archive"


class MissingExtra(CallerFault):
    """A library is not installed; the sentence names the extra that brings it."""


def archive_library(name: str) -> Any:
    """A module of the extra. Raises MissingExtra."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise MissingExtra(
            f"This needs the library {package}: install the extra, `pip install 'kaskad[{EXTRA}]'`."
        ) from None
