"""Libraries that an extra of the package brings: imported when something needs them."""

from __future__ import annotations

import importlib
from typing import Any

from gateway.errors import CallerFault


class MissingExtra(CallerFault):
    """A library is not installed; the sentence names the extra that brings it."""


def library(name: str, extra: str) -> Any:
    """A module of an extra. Raises MissingExtra."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise MissingExtra(
            f"This needs the library {package}: install the extra, `pip install 'kaskad[{extra}]'`."
        ) from None
