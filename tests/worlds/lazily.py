"""A library that is loaded when something of it is first used: for those whose import takes
seconds, which every process would spend that only collects tests."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType


def loaded(name: str) -> ModuleType:
    """The module of that name. Raises ModuleNotFoundError at once where there is none."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(name=name)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
