"""One line in the log for each request that is refused, and for each that changes something: whose
it was, from where, and what came of it. Sends that were taken are counted instead.

A line has the endpoint and not the address, which may hold a phone number, and of a key no more
than its beginning. Behind trusted proxies the peer is the one that the last of them names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from gateway.ingress.http.request import Request

HOPS_MAX = 32  # addresses of X-Forwarded-For that are looked at

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_log = structlog.get_logger("ingress")


class RequestOutcome(NamedTuple):
    """What came of a request: the kind of its problem, with its status, or `done`, whose status is
    that of the answer."""

    kind: str
    status: int = 0


DONE = RequestOutcome("done")


class RequestLog:
    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = [ipaddress.ip_network(each, strict=False) for each in trusted_proxies]

    def tell(
        self, request: Request, endpoint: str, outcome: RequestOutcome, seconds: float
    ) -> None:
        """What came of a request. What was only read is told for debugging."""
        status = outcome.status or request.status
        worth_a_line = status >= 400 or request.method not in _READS
        (_log.info if worth_a_line else _log.debug)(
            "request",
            endpoint=endpoint,
            method=request.method,
            status=status,
            outcome=outcome.kind,
            app=request.principal.app,
            key=request.principal.key,
            peer=self.asker(request),
            request_id=request.id.decode(),
            ms=round(seconds * 1000, 1),
        )

    def asker(self, request: Request) -> str:
        """Who asks."""
        return self.peer_of(request.peer, request.lines(b"x-forwarded-for"))

    def peer_of(self, peer: str, forwarded: bytes | None) -> str:
        """Who asks: the other end of the connection, or, where that is a trusted proxy, the last
        address in its X-Forwarded-For that is none. What is no address there is not believed."""
        if forwarded is None or not self._trusted:
            return peer
        hops = forwarded.decode("latin-1").rsplit(",", HOPS_MAX)
        while hops and self._trusts(peer):
            before = _address(hops.pop().strip())
            if before is None:
                break
            peer = before
        return peer

    def _trusts(self, peer: str) -> bool:
        address = _address(peer)
        if address is None:
            return False
        found = ipaddress.ip_address(address)
        return any(found in network for network in self._trusted)


def _address(text: str) -> str | None:
    """An address as it stands in a header, without brackets, port and zone."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return str(found if mapped is None else mapped)
