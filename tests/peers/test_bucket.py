"""Our archive in somebody else's S3: moto's server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from gateway.archive.archive import Archive
from gateway.archive.bucket import bucket_of
from gateway.core.archive.manifest import ArchiveFault
from tests.worlds.archive_world import KEY, ArchiveWorld, with_archive
from tests.worlds.buckets import a_name_stays_what_it_is, one_of_two_is_told
from tests.worlds.ports import free_port

URL = "s3://books/kaskad/archive"


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    moto = ThreadedMotoServer(port=free_port(), verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    make_bucket("books")
    yield
    moto.stop()


def make_bucket(name: str) -> None:
    boto3.client("s3").create_bucket(Bucket=name)


@with_archive(shards=2)
async def test_an_archive_lives_there(world: ArchiveWorld) -> None:
    world.archive = Archive(bucket_of(URL), URL, KEY)
    await world.delivered(9)
    await world.archived(keep_ms=0, rows_a_step=20)
    assert (await world.verify()).agrees
    world.archive = Archive(bucket_of(URL), URL, KEY)  # as another process has it
    await world.delivered(3, "winter")
    await world.archived(keep_ms=0)
    assert (await world.verify()).agrees
    assert not [reason for _, reason in world.archive.verify() if reason]


def test_of_two_that_exchange_the_manifest_one_is_told() -> None:
    one_of_two_is_told(bucket_of(URL), bucket_of(URL))


def test_a_name_is_never_written_twice(tmp_path: Path) -> None:
    a_name_stays_what_it_is(bucket_of(URL), tmp_path)


def test_a_bucket_that_is_not_there_is_a_fault_of_the_archive() -> None:
    with pytest.raises(ArchiveFault, match=r"nowhere|NoSuchBucket"):
        bucket_of("s3://nowhere").found(b"{}")
