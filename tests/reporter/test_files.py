"""A file that is written is whole or not there, and takes no other's place."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.files import write_new


def test_a_file_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "cost-2026-11-28.csv"
    assert write_new(path, b"a")
    assert not write_new(path, b"b")
    assert path.read_bytes() == b"a"
    assert list(tmp_path.iterdir()) == [path]


def test_who_comes_second_at_the_last_moment_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report"
    link = os.link

    def meanwhile(source: Any, target: Any) -> None:
        path.write_bytes(b"theirs")
        link(source, target)

    monkeypatch.setattr(os, "link", meanwhile)
    assert not write_new(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_new(tmp_path / "report", b"a")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    (tmp_path / ".report.csv.0a1b2c3d.unfinished").write_bytes(b"half")
    other = tmp_path / ".report.csv2.0a1b2c3d.unfinished"
    other.write_bytes(b"another's")
    assert write_new(path, b"a")
    assert sorted(tmp_path.iterdir()) == sorted([path, other])
