"""The id of a request, which stands on its answer and in the log: its caller's, or a new one.

A caller's id is taken where it can stand in a header and in a line of a log as it is; any other is
replaced.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from itertools import count

from gateway.ingress.http.asgi import HeaderField

REQUEST_ID = b"x-request-id"
ID_BYTES_MAX = 128

_usable = re.compile(rb"[!-~]{1,%d}" % ID_BYTES_MAX).fullmatch


class RequestIds:
    """One worker's: a new id is random for the worker and counts its requests."""

    def __init__(self) -> None:
        self._worker = secrets.token_hex(6).encode()
        self._numbers = count(1)

    def of(self, given: bytes | None) -> bytes:
        """`given` is what the caller's header says, if there is one."""
        if given is not None and _usable(given):
            return given
        return b"%b-%x" % (self._worker, next(self._numbers))

    def of_headers(self, headers: Iterable[HeaderField]) -> bytes:
        """By the first header of that name; names are in lower case."""
        return self.of(next((value for name, value in headers if name == REQUEST_ID), None))
