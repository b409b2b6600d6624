"""What a failed command says and with which code it ends.

The boundary where exceptions become exit codes and sentences. KASKAD_DEBUG=1 adds the traceback,
which is hidden otherwise.
"""

from __future__ import annotations

import os
import sys
import traceback

from gateway.cli.terminal import one_line
from gateway.errors import CallerFault, ConfigurationError
from gateway.files import system_sentence

DONE = 0
FAILED = 1
UNUSABLE = 2  # bad usage or configuration

DEBUG = "KASKAD_DEBUG"


class UsageFault(CallerFault):
    """The command was called in a way that cannot work; the sentence says how it can."""


def require_text(option: str, text: str) -> None:
    """Raises UsageFault for words that nobody could read again."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageFault(f"{option} is not UTF-8 text: write it so.") from None


def tell(fault: BaseException) -> int:
    """Prints the failure on stderr and returns the exit code."""
    if os.environ.get(DEBUG):
        traceback.print_exception(fault)
    if isinstance(fault, BrokenPipeError):
        # The reader of our output went away, as `head` does: that needs no words.
        return FAILED
    for line in _sentence(fault).split("\n"):
        sys.stderr.write(f"{one_line(line)}\n")
    return UNUSABLE if isinstance(fault, ConfigurationError | CallerFault) else FAILED


def _sentence(fault: BaseException) -> str:
    if isinstance(fault, KeyboardInterrupt):
        return "Interrupted."
    if isinstance(fault, OSError) and fault.strerror is not None:
        return system_sentence(fault)
    # Imported only now: the store takes its time, and most commands do not fail.
    from gateway.core.archive.manifest import ArchiveFault
    from gateway.demo.api import CampaignFailed
    from gateway.redis.errors import RedisError
    from gateway.redis.server.embedded import EmbeddedRedisError
    from gateway.store.money.totals import LedgerFault

    if isinstance(fault, ConfigurationError | CallerFault):
        return str(fault)
    if isinstance(
        fault, CampaignFailed | RedisError | EmbeddedRedisError | LedgerFault | ArchiveFault
    ):
        return str(fault)
    return (
        f"Something unexpected happened ({type(fault).__name__}: {fault}). Run it again with "
        f"{DEBUG}=1 to see where, and report that."
    )
