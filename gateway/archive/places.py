"""Which place `archive.url` names."""

from __future__ import annotations

from pathlib import Path

from gateway.archive.place import ArchivePlace, Folder


def place_of(url: str) -> ArchivePlace:
    """A folder, or a bucket by s3://BUCKET/PREFIX."""
    if not url.startswith("s3://"):
        return Folder(Path(url))
    from gateway.archive.bucket import bucket_of  # with its library, which a folder needs not

    return bucket_of(url)
