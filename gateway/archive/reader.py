"""The process that reads the archive for another one, which must not load what that takes.

`python -m gateway.archive.reader URL`: questions come on stdin and answers go to stdout, one after
the other, as `gateway.finance.archive_calls` has them. It ends with its stdin, or when nobody has
asked for IDLE_S. What the archive cannot answer is answered as that; it never ends for it.
"""

from __future__ import annotations

import os
import select
import sys
from typing import BinaryIO

from gateway.archive.accepted import accepted_before
from gateway.archive.archive import Archive
from gateway.archive.booked import through_of
from gateway.archive.lines import lines_of_archive
from gateway.archive.places import place_of
from gateway.archive.questions import FAULTS
from gateway.archive.sent import records_of
from gateway.core.archive.manifest import ArchiveFault
from gateway.finance.archive_calls import (
    LENGTH_BYTES,
    AcceptedAsked,
    ArchiveAnswer,
    ArchiveQuestion,
    LinesAsked,
    LinesFound,
    MessagesAsked,
    MessagesFound,
    NotRead,
    ThroughFound,
    decode_asked,
    framed,
)

IDLE_S = 60.0


def answer(archive: Archive, asked: ArchiveQuestion) -> ArchiveAnswer:
    """What the archive says as it is now."""
    try:
        if isinstance(asked, MessagesAsked):
            return MessagesFound(records_of(archive, asked.ids))
        if isinstance(asked, LinesAsked):
            return LinesFound(lines_of_archive(archive, asked.wanted))
        if isinstance(asked, AcceptedAsked):
            return accepted_before(archive, asked)
        return ThroughFound(through_of(archive, asked.shard))
    except (ArchiveFault, OSError, *FAULTS) as fault:
        return NotRead(str(fault))


def serve(archive: Archive, questions: BinaryIO, answers: BinaryIO) -> None:
    """Answers until there are no more questions."""
    while select.select([questions], [], [], IDLE_S)[0]:
        length = _read(questions, LENGTH_BYTES)
        if len(length) < LENGTH_BYTES:
            return
        asked = decode_asked(_read(questions, int.from_bytes(length)))
        archive.begun = asked.begun
        answers.write(framed(answer(archive, asked.question)))
        answers.flush()


def _read(questions: BinaryIO, count: int) -> bytes:
    """So many bytes, or fewer where there are no more."""
    octets = b""
    while len(octets) < count and (more := questions.read(count - len(octets))):
        octets += more
    return octets


if __name__ == "__main__":
    url = sys.argv[1]
    # Unbuffered: what is read ahead would not be seen by `select`.
    with os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stdin:
        serve(Archive(place_of(url), url), stdin, sys.stdout.buffer)
