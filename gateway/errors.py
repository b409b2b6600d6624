"""What its reader has to do about an error: change the request, or reconfigure.

Each module derives its own errors from these bases and words the sentence. The boundaries map the
base, never the leaf: over HTTP 4xx, on the command line exit 2.
"""

from __future__ import annotations


class CallerFault(Exception):
    """The request cannot be served as it is; the sentence says what its sender should change."""


class ConfigurationError(Exception):
    """Kaskad cannot run as it is configured; the sentence says what the operator should change."""
