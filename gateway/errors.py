"""The error tree, by what its reader has to do: change the request, wait, or reconfigure.

Owns the three bases only; each module derives its own errors from them and words the sentence. The
boundaries (HTTP, command line) map the base, never the leaf: 4xx and exit 1, 503 with Retry-After,
exit 2.
"""

from __future__ import annotations


class CallerFault(Exception):
    """The request cannot be served as it is; the sentence says what its sender should change."""


class TryAgain(Exception):
    """Something we need is away; the same request is good later, in about `retry_after_ms`."""

    def __init__(self, sentence: str, *, retry_after_ms: int) -> None:
        super().__init__(sentence)
        self.retry_after_ms = retry_after_ms


class ConfigurationError(Exception):
    """Kaskad cannot run as it is configured; the sentence says what the operator should change."""
