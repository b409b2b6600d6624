"""A library that is loaded when something of it is first used: for those whose import takes
seconds, which every process would spend that only collects tests."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


class Lazily:
    """Stands for the module of that name. Raises ModuleNotFoundError at once where there is none.

    Asked for a private name it loads nothing: pytest asks all that a test module holds for marks of
    its own, so that a module of `importlib.util.LazyLoader` was loaded by collecting (1.6 s of CPU
    in each worker, 2026-11-29).
    """

    def __init__(self, name: str) -> None:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(name=name)
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)
