"""Which of a day's files become one, and the manifest then. Pure.

Each run leaves a file a day and table, so a day that is over has many small ones. Where there are
more than `files_max`, those that are small are put together, into files of `rows_max` rows and of
`bytes_max` bytes at most, as far as their parts say: rows are what it costs to put them in order,
bytes what it costs a reader to fetch one. The one that takes their place says what it `replaces`;
those stay where they are for KEPT_MS, for readers that have the manifest of before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from gateway.core.archive.manifest import (
    ArchivedFile,
    EntryId,
    entry_id,
    entry_texts,
)
from gateway.core.money.days import DAY_MS

KEPT_MS = DAY_MS


class Merging(msgspec.Struct, frozen=True):
    """When a day's files are put together."""

    files_max: int = 8
    rows_max: int = 3_000_000
    bytes_max: int = 64 * 1_024 * 1_024  # what was measured: tests/archive/merged_day.py

    def is_small(self, file: ArchivedFile) -> bool:
        """Whether any two of them may become one."""
        return 2 * file.rows <= self.rows_max and 2 * file.bytes <= self.bytes_max


def to_merge(files: Iterable[ArchivedFile], today: str, rules: Merging) -> list[list[ArchivedFile]]:
    """Groups of files, each of which is to become one; days from `today` on are not over."""
    small: defaultdict[tuple[str, str], list[ArchivedFile]] = defaultdict(list)
    for file in files:
        if file.day < today and rules.is_small(file):
            small[file.table, file.day].append(file)
    groups: list[list[ArchivedFile]] = []
    for each in small.values():
        if len(each) > rules.files_max:
            groups += _filled(each, rules)
    return groups


def _filled(files: Iterable[ArchivedFile], rules: Merging) -> list[list[ArchivedFile]]:
    groups: list[list[ArchivedFile]] = []
    rows = octets = 0
    for file in files:
        rows, octets = rows + file.rows, octets + file.bytes
        if not groups or rows > rules.rows_max or octets > rules.bytes_max:
            groups.append([])
            rows, octets = file.rows, file.bytes
        groups[-1].append(file)
    return [group for group in groups if len(group) > 1]


def span_of(
    group: Sequence[ArchivedFile],
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Between which entries of each shard's stream the rows of all of them lie."""
    after: dict[int, EntryId] = {}
    through: dict[int, EntryId] = {}
    for file in group:
        for shard, text in file.after.items():
            after[int(shard)] = min(after.get(int(shard), entry_id(text)), entry_id(text))
        for shard, text in file.through.items():
            through[int(shard)] = max(through.get(int(shard), entry_id(text)), entry_id(text))
    return entry_texts(after), entry_texts(through)


def in_place_of(
    group: Sequence[ArchivedFile], made: ArchivedFile, files: Iterable[ArchivedFile], now_ms: int
) -> list[ArchivedFile]:
    """The manifest's files with `made` in the place of some."""
    gone = frozenset(file.file for file in group)
    kept = [name for file in group if file.merged_ms > now_ms - KEPT_MS for name in file.replaces]
    replaces = (*(file.file for file in group), *kept)
    made = replace(made, replaces=replaces, merged_ms=now_ms)
    return [*(file for file in files if file.file not in gone), made]


def lying(files: Iterable[ArchivedFile], now_ms: int) -> set[str]:
    """The names of all that are to lie there: what the manifest names, and what was replaced
    lately."""
    names: set[str] = set()
    for file in files:
        names.add(file.file)
        if file.merged_ms > now_ms - KEPT_MS:
            names.update(file.replaces)
    return names
