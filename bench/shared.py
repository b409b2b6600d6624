"""What the scenarios of one run share: its sizes and options, and the folder of their worlds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec

from bench.sizes import Sizes
from bench.world import Plan, World


class Bench(msgspec.Struct, kw_only=True):
    """What a run shares: sizes, options, where worlds live, and the floors measured so far."""

    sizes: Sizes
    folder: Path
    seed: int
    viber_share: float
    users: bool
    workers: int
    seen: bool
    progress: Callable[[str, int], AbstractContextManager[Callable[[float], None]]]
    floors: dict[str, dict[str, float]] = {}
    worlds: int = 0

    def world(self, **plan: Any) -> World:
        self.worlds += 1
        settings = {"seed": self.seed, "viber_share": self.viber_share, "workers": self.workers}
        settings |= {"seen": self.seen}
        return World(self.folder / f"world-{self.worlds}", Plan(**(settings | plan)))
