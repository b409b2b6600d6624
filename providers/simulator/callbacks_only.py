"""What twins have in common whose providers are never asked: they tell by pushing, or not at all.

A twin takes these for its own and writes only what its provider does otherwise.
"""

# ruff: noqa: ARG002 - the arguments are the port's

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from providers.contract import Channel
from providers.simulator.book import Entry
from providers.simulator.replies import Reply
from providers.simulator.twin import ErrorShape, Listing, Pull, Unreadable, Violations


class CallbacksOnly:
    """Nothing is pulled or posted aside; a POST has one report, and nobody hears of a look or a
    complaint."""

    pulls: Mapping[str, tuple[Channel, Listing]] = {}

    def aside(self, path: str, body: bytes, api_key: str) -> Reply | None:
        return None

    def read_pull(self, query: Mapping[str, list[str]]) -> Pull:
        raise Unreadable("There is nothing to pull.")

    def pulled(self, listing: Listing, entries: Sequence[Entry], *, price_when_free: bool) -> bytes:
        return b""

    def seen_report(self, entry: Entry) -> bytes:
        return b""

    def complaint(self, entry: Entry, now_ms: int) -> bytes:
        return b""

    def post(self, reports: Sequence[bytes], key: str = "") -> bytes:
        (report,) = reports
        return report


class BesideHttp(CallbacksOnly):
    """Its messages come through a door of their own, which checks who sends."""

    def is_authorised(self, headers: Mapping[bytes, bytes], api_key: str) -> bool:
        return False

    def sends_at(self, path: str) -> Channel | None:
        return None

    def error(
        self, shape: ErrorShape, status: int, sentence: str, violations: Violations = ()
    ) -> bytes:
        return sentence.encode()


def moment(at_ms: int) -> str:
    """A time in a report, as ISO 8601 writes it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
