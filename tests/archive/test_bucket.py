"""An archive in a bucket: the same promises as in a folder, kept by conditions of the requests. A
server of somebody else's is asked in tests/peers."""

from __future__ import annotations

from pathlib import Path

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from gateway.archive.archive import Archive
from gateway.archive.bucket import Bucket
from gateway.core.archive.manifest import ArchiveFault, BucketFault
from gateway.store.messages import reads
from tests.worlds.archive_world import KEY, ArchiveWorld, with_archive
from tests.worlds.buckets import a_name_stays_what_it_is, one_of_two_is_told


def in_memory(world: ArchiveWorld) -> MemoryStore:
    store = MemoryStore()
    world.archive = Archive(Bucket(store), "s3://memory", KEY)
    return store


@with_archive(shards=2)
async def test_a_bucket_keeps_what_a_folder_does(world: ArchiveWorld) -> None:
    store = in_memory(world)
    ids = await world.delivered(12)
    before = await world.verify()
    await world.archived(keep_ms=0, rows_a_step=20)
    assert (await world.verify()).entries == before.entries
    assert not await reads.readable_messages(world.store, ids)
    world.archive = Archive(Bucket(store), "s3://memory", KEY)  # as another process has it
    await world.delivered(3, "winter")
    await world.archived(keep_ms=0)
    assert (await world.verify()).agrees
    assert not [reason for _, reason in world.archive.verify() if reason]
    named = {file.file for file in world.archive.files()}
    lying = {each["path"] for page in obstore.list(store) for each in page}
    assert lying == named | {"archive.json", "manifest.ndjson"}


@with_archive()
async def test_a_changed_object_is_noticed_before_it_is_read(world: ArchiveWorld) -> None:
    store = in_memory(world)
    await world.delivered(3)
    await world.archived()
    (file,) = [file for file in world.archive.files() if file.table == "ledger"]
    octets = bytearray(bytes(obstore.get(store, file.file).bytes()))
    octets[len(octets) // 2] ^= 1
    obstore.put(store, file.file, bytes(octets))
    world.archive = Archive(Bucket(store), "s3://memory", KEY)
    assert [f.file for f, reason in world.archive.verify() if reason] == [file.file]
    with pytest.raises(ArchiveFault, match="not as it was written"):
        await world.verify()


def test_of_two_that_exchange_the_manifest_one_is_told() -> None:
    store = MemoryStore()
    one_of_two_is_told(Bucket(store), Bucket(store))


def test_a_name_is_never_written_twice(tmp_path: Path) -> None:
    a_name_stays_what_it_is(Bucket(MemoryStore()), tmp_path)


def test_a_bucket_that_is_away_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its library tells its inner state as well, over many lines."""

    def away(*_: object) -> None:
        raise GenericError("Generic S3 error: no way\n  to it\n\nDebug source:\nGeneric {\n  store")

    monkeypatch.setattr(obstore, "get", away)
    with pytest.raises(BucketFault) as told:
        Bucket(MemoryStore()).manifest()
    sentence = str(told.value)
    assert "not do as asked: Generic S3 error: no way to it. See that archive.url" in sentence
    assert "\n" not in sentence
    assert "Debug" not in sentence
