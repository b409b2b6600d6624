"""Where an archive is kept: the port, and a folder of this machine.

A file is finished elsewhere, then published under its name, and never written again; a name that is
taken is the same file, since names are made of what is in it. The manifest is exchanged as a whole
and only where it still is what was read, so of two that change it at once one is told.

Each step survives a power cut once it returned: files and folders are synced. What stops in between
leaves files that no manifest names; `strays` finds them. OSError passes unchanged (a full disk, a
folder that may not be written).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from gateway.core.archive.manifest import NAME, ArchivedFile, ArchiveFault, is_file_name
from gateway.files import sync_folder

ABOUT = "archive.json"
CHUNK_BYTES = 1 << 20
_SPOOL = ".unfinished"
_LOCK = ".lock"


class ManifestMoved(Exception):
    """Somebody else changed the manifest meanwhile: nothing was changed, and all is to be read
    again."""


class FileGone(ArchiveFault):
    """It is not there."""


class Manifest(NamedTuple):
    """`version` is what an exchange is held against."""

    text: bytes
    version: str


class ArchivePlace(Protocol):
    """Calls block; whoever has a loop makes them in another process."""

    def about(self) -> bytes | None:
        """What the archive says of itself; None: there is none yet."""

    def found(self, about: bytes) -> bytes:
        """Says that for good, where nothing is said yet; returns what stands."""

    def manifest(self) -> Manifest: ...

    def exchange_manifest(self, text: bytes, before: Manifest, published: Iterable[str]) -> None:
        """`published` are the files that it names anew. Raises ManifestMoved, also where one of
        those is gone."""

    def folder(self) -> Path:
        """Below which `local` has its files."""

    def spool(self) -> Path:
        """An empty folder for files that are not finished."""

    def publish(self, finished: Path, name: str) -> None: ...

    def local(self, file: ArchivedFile) -> Path:
        """Where the file can be read here, as it was written. Raises ArchiveFault where it cannot,
        or is not."""

    def leave(self, file: ArchivedFile) -> None:
        """It is read here no more: what was fetched for that need not stay."""

    def sha256(self, file: ArchivedFile) -> str:
        """Of the file as it is there now. Raises ArchiveFault where it cannot be read, FileGone
        where there is none."""

    def strays(self, named: Iterable[str]) -> None:
        """Removes files of the archive's that no manifest names, `named` being those that it
        does, where nobody can be about to name them."""


class Folder:
    """An archive in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._leave_spool: Callable[[], object] = lambda: None
        self._sound: dict[str, int] = {}  # files that are as they were written, since when

    def about(self) -> bytes | None:
        try:
            return (self._root / ABOUT).read_bytes()
        except FileNotFoundError:
            return None

    def found(self, about: bytes) -> bytes:
        self._root.mkdir(parents=True, exist_ok=True)
        with self._locked():
            stands = self.about()
            if stands is None:
                self._exchange(ABOUT, about)
                stands = about
        return stands

    def manifest(self) -> Manifest:
        try:
            text = (self._root / NAME).read_bytes()
        except FileNotFoundError:
            text = b""
        return Manifest(text, hashlib.sha256(text).hexdigest())

    def exchange_manifest(self, text: bytes, before: Manifest, published: Iterable[str]) -> None:
        with self._locked():
            there = all((self._root / name).exists() for name in published)
            if self.manifest().version != before.version or not there:
                raise ManifestMoved
            self._exchange(NAME, text)

    def folder(self) -> Path:
        return self._root

    def spool(self) -> Path:
        """One that is this process' own while it is there: who stood still and lost the lease may
        be in the middle of a file. What others left that are gone is removed."""
        spools = self._root / _SPOOL
        spools.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._leave_spool()
            for left in spools.iterdir():
                if left.is_file():
                    left.unlink()
                elif not _is_somebodys(left):
                    shutil.rmtree(left, ignore_errors=True)
            own = Path(tempfile.mkdtemp(dir=spools))
            lock = os.open(own / _LOCK, os.O_WRONLY | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._leave_spool = weakref.finalize(self, os.close, lock)
        return own

    def publish(self, finished: Path, name: str) -> None:
        place = self._root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        # A rename would put it in the place of another; a link is refused then.
        try:
            os.link(finished, place)
        except FileExistsError:
            if sha256_of(place) != sha256_of(finished):
                raise ArchiveFault(
                    f"{place} is not what its name says: `kaskad archive verify` tells what else "
                    "differs; restore it from a copy."
                ) from None
        for folder in (place.parent, place.parent.parent, self._root):
            sync_folder(folder)
        finished.unlink()

    def local(self, file: ArchivedFile) -> Path:
        """Its hash is looked at when it is read first, and again when somebody wrote to it: a bit
        that is another shows nowhere else (of 8 such files 5 were read, with other amounts;
        2026-12-01). A second of one core for 500 MiB."""
        path, written_ns = self._there(file)
        if self._sound.get(file.file) != written_ns and self.sha256(file) != file.sha256:
            raise ArchiveFault(
                f"{path}, of {file.when}, is not as it was written, so it is not used: restore it "
                "from a copy. `kaskad archive verify` tells what else differs."
            )
        return path

    def leave(self, file: ArchivedFile) -> None:
        """It lies here."""

    def sha256(self, file: ArchivedFile) -> str:
        path, written_ns = self._there(file)
        found = sha256_of(path)
        if found == file.sha256:
            self._sound[file.file] = written_ns
        return found

    def _there(self, file: ArchivedFile) -> tuple[Path, int]:
        """Where it lies, and when it was written to last. Raises ArchiveFault."""
        path = self._root / file.file
        try:
            stat = path.stat()
        except OSError as fault:
            kind = FileGone if isinstance(fault, FileNotFoundError) else ArchiveFault
            raise kind(f"{path}, of {file.when}, cannot be read: {fault.strerror}.") from None
        if stat.st_size != file.bytes:
            raise ArchiveFault(
                f"{path}, of {file.when}, has {stat.st_size} bytes, and the manifest says "
                f"{file.bytes}."
            )
        return path, stat.st_mtime_ns

    def strays(self, named: Iterable[str]) -> None:
        keep = frozenset(named)
        with self._locked():
            for path in self._root.glob("*/day=*/*.parquet"):
                name = path.relative_to(self._root).as_posix()
                if is_file_name(name) and name not in keep:
                    path.unlink(missing_ok=True)

    def _exchange(self, name: str, text: bytes) -> None:
        new = self._root / f".{name}.new"
        with new.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._root / name)
        sync_folder(self._root)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among those who change this folder. It ends with its process."""
        with (self._root / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _is_somebodys(spool: Path) -> bool:
    """Whether who made it is there."""
    try:
        with (spool / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
