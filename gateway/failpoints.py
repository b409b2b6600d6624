"""Named moments at which a test may have a process die, and nothing at all in normal runs.

KASKAD_FAULT_POINT=NAME or NAME:N in the environment kills the process (SIGKILL, so nothing is
cleaned up, said or written any more) when it comes to the moment NAME for the Nth time. Without it
`failpoint` is a function that does nothing, chosen once when this module is imported. A name that
does not exist is a ConfigurationError at the start, so that a test cannot pass by never dying.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from gateway.errors import ConfigurationError

VARIABLE = "KASKAD_FAULT_POINT"
POINTS = (
    "accepted",  # ingress: messages are durable, nobody has been answered
    "claimed",  # dispatch: steps are claimed, no byte has left
    "answer_read",  # dispatch: the provider has answered, nothing is recorded
    "committed",  # dispatch: what the provider answered is recorded
    "receipt_read",  # ingress: receipts are read, nothing is applied
    "settled",  # ingress: receipts are applied and booked, the provider is not answered
    "clicks_taken",  # ingress: clicks were answered, none of the batch is recorded
    "clicks_counted",  # ingress: they count, and nobody has reacted by them
    "timer_due",  # dispatch: timers are due, none has been fired
    "archive_written",  # archiver: a file is finished, and not where it belongs
    "archive_merged",  # archiver: a file with the rows of several is finished, and not there yet
    "archive_published",  # archiver: it lies where it belongs, and no manifest names it
    "archive_named",  # archiver: the manifest names it, and all is in Redis still
    "archive_trimmed",  # archiver: what it holds of the ledger left Redis
    "archive_taken_out",  # archiver: messages that it holds left Redis
    "archive_moved_on",  # archiver: what it holds of the index left Redis
    "fallback_queued",  # dispatch: a timer has put the next step into its lane
)


def _nothing(_: str) -> None:
    return


def armed(wanted: str) -> Callable[[str], None]:
    """The `failpoint` for a value of the variable. Raises ConfigurationError."""
    if not wanted:
        return _nothing
    name, _, times = wanted.partition(":")
    if name not in POINTS or not (times or "1").isdecimal():
        raise ConfigurationError(
            f"{VARIABLE} is {wanted!r}: unset it, or name one of {', '.join(POINTS)}."
        )
    left = int(times or "1")

    def count(here: str) -> None:
        nonlocal left
        if here == name:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return count


failpoint = armed(os.environ.get(VARIABLE, ""))
