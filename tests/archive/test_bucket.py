"""An archive in a bucket: the same promises as in a folder, kept by conditions of the requests. A
server of somebody else's is asked in tests/peers."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore, S3Store

from gateway.archive.archive import Archive
from gateway.archive.bucket import Bucket, bucket_of
from gateway.core.archive.manifest import ArchiveFault
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


@with_archive()
async def test_what_was_fetched_to_be_verified_does_not_stay(world: ArchiveWorld) -> None:
    """The whole archive is: a machine need not have room for it."""
    store = in_memory(world)
    await world.delivered(3)
    await world.archived()
    (file,) = [file for file in world.archive.files() if file.table == "ledger"]
    obstore.put(store, file.file, b"another")
    bucket = Bucket(store)
    assert (
        len([reason for _, reason in Archive(bucket, "s3://memory", KEY).verify() if reason]) == 1
    )
    assert not [path for path in bucket.folder().rglob("*") if path.is_file()]


def test_of_two_that_exchange_the_manifest_one_is_told() -> None:
    store = MemoryStore()
    one_of_two_is_told(Bucket(store), Bucket(store))


def test_a_name_is_never_written_twice(tmp_path: Path) -> None:
    a_name_stays_what_it_is(Bucket(MemoryStore()), tmp_path)


HOLDS_ONE = """
import sys
from gateway.archive.bucket import Bucket
from obstore.store import MemoryStore

bucket = Bucket(MemoryStore())
print(bucket.folder(), flush=True)
sys.stdin.read()
"""


class RefusingServer:
    """Answers every request with `status`."""

    def __init__(self) -> None:
        self.status = 503
        self.url = ""

    def bucket(self, status: int) -> Bucket:
        self.status = status
        store = S3Store(
            "books",
            endpoint=self.url,
            access_key_id="key",
            secret_access_key="secret",
            region="eu-west-1",
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        return Bucket(store)


@pytest.fixture
def refusing() -> Iterator[RefusingServer]:
    refusing = RefusingServer()

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(refusing.status)
            self.send_header("content-length", "0")
            self.end_headers()

        do_PUT = do_HEAD = do_GET  # noqa: N815 - the names are the library's

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    refusing.url = f"http://127.0.0.1:{server.server_port}"
    yield refusing
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("status", [301, 403, 404, 500, 503])
def test_a_bucket_that_refuses_is_one_sentence_that_says_what_to_do(
    refusing: RefusingServer, status: int, tmp_path: Path
) -> None:
    bucket = refusing.bucket(status)
    finished = tmp_path / "finished"
    finished.write_bytes(b"one")
    asked: list[Callable[[], object]] = [
        lambda: bucket.publish(finished, "ledger/day=2026-11-29/a.parquet"),
        lambda: bucket.found(b"{}"),
    ]
    if status != 404:  # there, it is nothing that was written yet
        asked += [bucket.about, bucket.manifest]
    for ask in asked:
        with pytest.raises(ArchiveFault) as told:
            ask()
        sentence = str(told.value)
        assert "\n" not in sentence
        assert "Debug" not in sentence
        assert "AWS_ACCESS_KEY_ID" in sentence


def test_a_bucket_without_credentials_is_such_a_sentence_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(ArchiveFault, match="AWS_ACCESS_KEY_ID"):
        bucket_of("s3://books/archive")


def test_an_endpoint_that_is_http_needs_no_more_than_its_address(
    refusing: RefusingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the same network, say; the library itself wants to be told so once more."""
    refusing.status = 403
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        with monkeypatch.context() as one:
            one.setenv(name, refusing.url)
            with pytest.raises(ArchiveFault, match="403"):
                bucket_of("s3://books/archive").manifest()


def test_a_name_that_is_being_written_by_another_is_not_called_damaged(
    refusing: RefusingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = refusing.bucket(409)
    monkeypatch.setattr(bucket, "_read", lambda _name: None)
    finished = tmp_path / "finished"
    finished.write_bytes(b"one")
    with pytest.raises(ArchiveFault) as told:
        bucket.publish(finished, "ledger/day=2026-11-29/a.parquet")
    assert "restore" not in str(told.value)


def test_what_a_killed_process_had_fetched_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_ONE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        held = Path(holder.stdout.readline().strip())
        (held / "fetched").write_bytes(b"much")
        mine = Bucket(MemoryStore())
        assert (held / "fetched").exists()
        holder.kill()
        holder.wait()
    other = Bucket(MemoryStore())
    assert not held.exists()
    assert mine.folder().exists()
    assert other.folder().exists()
