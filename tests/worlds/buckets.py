"""What a bucket promises, whoever serves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.archive.bucket import Bucket
from gateway.archive.place import ManifestMoved
from gateway.core.archive.manifest import ArchiveFault

NAME = "ledger/day=2026-11-29/a.parquet"
GONE = "ledger/day=2026-11-29/gone.parquet"


def one_of_two_is_told(one: Bucket, other: Bucket) -> None:
    """Two exchange the manifest of an empty bucket at once, twice; then a file of it is gone."""
    nothing = one.manifest()
    one.exchange_manifest(b"1\n", nothing, [])
    with pytest.raises(ManifestMoved):
        other.exchange_manifest(b"2\n", nothing, [])
    first = other.manifest()
    assert first.text == b"1\n"
    one.exchange_manifest(b"1\n3\n", first, [])
    with pytest.raises(ManifestMoved):
        other.exchange_manifest(b"4\n", first, [])
    with pytest.raises(ManifestMoved):
        one.exchange_manifest(b"5\n", one.manifest(), [GONE])


def a_name_stays_what_it_is(bucket: Bucket, folder: Path) -> None:
    """The same file is published again, then another under its name."""
    finished = folder / "finished"
    for octets in (b"one", b"one"):
        finished.write_bytes(octets)
        bucket.publish(finished, NAME)
    finished.write_bytes(b"two")
    with pytest.raises(ArchiveFault, match="not what its name says"):
        bucket.publish(finished, NAME)
