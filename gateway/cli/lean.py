"""Two libraries, loaded without what they would use only if somebody asked for it.

structlog loads rich for tracebacks in colour, redis-py the metrics of OpenTelemetry, as soon as
those are installed. Kaskad asks for neither: it writes plain tracebacks and counts by itself. They
were a fifth of what a process loads (2026-11-29, CPU of the imports on a busy machine, medians of
five: `kaskad key new` 0.45 s with and 0.34 without, `kaskad serve` 0.65 and 0.52).

While such a library is loaded, and only then, what it does not need counts as not installed, for
which both are made. Nothing changes for who asks for rich or OpenTelemetry afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

UNUSED = {"structlog": "rich", "redis": "opentelemetry.sdk"}


def load_lean() -> None:
    """From now on in this process; without effect on what is loaded already."""
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def __init__(self) -> None:
        self.left_out: set[str] = set()  # while a library is loaded that does not need it

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in self.left_out:
            raise ModuleNotFoundError(f"{name} is not needed here.", name=name)
        if name not in UNUSED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Without(spec.loader, UNUSED[name], self.left_out)
        return spec


class _Without(Loader):
    """Loads as `loader` does, while `unused` cannot be found."""

    def __init__(self, loader: Loader, unused: str, left_out: set[str]) -> None:
        self._loader = loader
        self._unused = unused
        self._left_out = left_out

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader  # whoever asks for it later
        self._left_out.add(self._unused)
        try:
            self._loader.exec_module(module)
        finally:
            self._left_out.remove(self._unused)
