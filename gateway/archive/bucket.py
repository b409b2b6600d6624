"""An archive in a bucket of S3, or of what speaks its protocol.

A file is put whole and only under a name that is free, the manifest only in the place of the one
that was read: both are conditions of the request, so no lock is needed. What is read is fetched
into a folder of this process, and used only when its hash is right; what a killed process left of
such is removed by the next. Credentials, region and endpoint come from the environment
(AWS_ACCESS_KEY_ID and so on). Raises ArchiveFault for whatever the server or the way to it does not
do.
"""

from __future__ import annotations

import datetime
import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PreconditionError,
)
from obstore.store import MemoryStore, S3Store

from gateway.archive.place import ABOUT, FileGone, Manifest, ManifestMoved, sha256_of
from gateway.core.archive.manifest import NAME, ArchivedFile, ArchiveFault, is_file_name

ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
FETCHED = "kaskad-bucket-"
STRAY_AFTER = datetime.timedelta(days=1)  # nobody can be about to name it then


class Bucket:
    """`store` is the bucket below the archive's prefix."""

    def __init__(self, store: S3Store | MemoryStore) -> None:
        self._store = store
        _remove_left()
        self._here, lock = _own_folder()
        weakref.finalize(self, _leave, self._here, lock)

    def about(self) -> bytes | None:
        with _faults():
            return self._read(ABOUT)

    def found(self, about: bytes) -> bytes:
        with _faults():
            try:
                obstore.put(self._store, ABOUT, about, mode="create")
            except (AlreadyExistsError, PreconditionError):
                return self._read(ABOUT) or about
            return about

    def manifest(self) -> Manifest:
        with _faults():
            try:
                found = obstore.get(self._store, NAME)
            except FileNotFoundError:
                return Manifest(b"", "")
            return Manifest(bytes(found.bytes()), found.meta["e_tag"] or "")

    def exchange_manifest(self, text: bytes, before: Manifest, published: Iterable[str]) -> None:
        with _faults():
            for name in published:
                try:
                    obstore.head(self._store, name)
                except FileNotFoundError:
                    raise ManifestMoved from None
            try:
                if before.version:
                    obstore.put(self._store, NAME, text, mode={"e_tag": before.version})
                else:
                    obstore.put(self._store, NAME, text, mode="create")
            except (AlreadyExistsError, PreconditionError):
                raise ManifestMoved from None

    def folder(self) -> Path:
        return self._here

    def spool(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._here))

    def publish(self, finished: Path, name: str) -> None:
        with _faults():
            try:
                # Of several parts it would take the place of another.
                obstore.put(self._store, name, finished, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                stands = self._read(name)
                if stands is None:
                    raise ArchiveFault(
                        f"{name} is being written by somebody else: the next run goes on."
                    ) from None
                if stands != finished.read_bytes():
                    raise ArchiveFault(
                        f"{name} is not what its name says: restore it from a copy."
                    ) from None
        finished.unlink()

    def local(self, file: ArchivedFile) -> Path:
        path = self.folder() / file.file
        if not path.exists():
            fetched = self._fetched(file)
            if sha256_of(fetched) != file.sha256:
                fetched.unlink()
                raise ArchiveFault(f"{file.file}, of {file.when}, is not as it was written.")
            path.parent.mkdir(parents=True, exist_ok=True)
            fetched.rename(path)
        return path

    def leave(self, file: ArchivedFile) -> None:
        (self._here / file.file).unlink(missing_ok=True)

    def sha256(self, file: ArchivedFile) -> str:
        fetched = self._fetched(file)
        digest = sha256_of(fetched)
        fetched.unlink()
        return digest

    def strays(self, named: Iterable[str]) -> None:
        keep = frozenset(named)
        oldest = datetime.datetime.now(datetime.UTC) - STRAY_AFTER
        with _faults():
            for page in obstore.list(self._store):
                for each in page:
                    name = each["path"]
                    stray = is_file_name(name) and name not in keep
                    if stray and each["last_modified"] < oldest:
                        obstore.delete(self._store, name)

    def _fetched(self, file: ArchivedFile) -> Path:
        path = self.spool() / "fetched"
        with _faults():
            try:
                found = obstore.get(self._store, file.file)
            except FileNotFoundError:
                raise FileGone(f"{file.file}, of {file.when}, is gone.") from None
            try:
                with path.open("wb") as fetched:
                    for chunk in found:
                        fetched.write(chunk)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return path

    def _read(self, name: str) -> bytes | None:
        try:
            return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError:
            return None


def bucket_of(url: str) -> Bucket:
    """By s3://BUCKET/PREFIX."""
    name, _, prefix = url.removeprefix("s3://").partition("/")
    plain = any(os.environ.get(each, "").startswith("http://") for each in ENDPOINTS)
    with _faults():
        store = S3Store(
            name,
            prefix=prefix.strip("/") or None,
            client_options={"allow_http": True} if plain else None,
        )
    return Bucket(store)


def _own_folder() -> tuple[Path, int]:
    """A folder that is locked before anybody can find it, and its lock."""
    made = Path(tempfile.mkdtemp(prefix=f".{FETCHED}"))
    lock = os.open(made, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return made.rename(made.with_name(made.name[1:])), lock


def _leave(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _remove_left() -> None:
    """The folders whose processes are gone."""
    for left in Path(tempfile.gettempdir()).glob(f"{FETCHED}*"):
        with suppress(OSError):  # it is held, or another user's
            lock = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


@contextmanager
def _faults() -> Iterator[None]:
    """What obstore raises, as a sentence."""
    try:
        yield
    except (BaseError, FileNotFoundError) as fault:
        first = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise ArchiveFault(
            f"The bucket of archive.url does not do as asked ({first[:300]}): see that it is there "
            "and may be read and written with the AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY of this process."
        ) from fault
