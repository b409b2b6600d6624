"""How far long work has come: lines so far, by stage, on stderr where somebody is looking. It is
gone when the work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

EACH = 1_000  # lines between two updates, each of which takes microseconds

T = TypeVar("T")


class Counting:
    """Stages of work, one below the other."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    def stage(self, name: str) -> Callable[[int], None]:
        """Begins one; told how many lines more are done."""
        task = self._shown.add_task(name, total=None)
        return lambda more: self._shown.advance(task, more)

    def of(self, lines: Iterable[T], name: str) -> Iterator[T]:
        """The lines of a stage, counted as they go."""
        advance, count = self.stage(name), 0
        for count, line in enumerate(lines, 1):
            yield line
            if count % EACH == 0:
                advance(EACH)
        advance(count % EACH)


@contextmanager
def counting() -> Iterator[Counting]:
    """Shown until the work is done."""
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        TextColumn("{task.completed:,} lines"),
    )
    console = Console(stderr=True)
    unseen = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=unseen) as shown:
        yield Counting(shown)
