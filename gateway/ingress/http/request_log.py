"""One line in the log for each request that is refused, and for each that changes something: whose
it was, from where, and what came of it. Sends that were taken are counted instead.

Of an app's requests that are refused alike LINES_MAX a second have a line, and a later one says how
many had none: neither a stranger nor an hour without Redis fills a disk. A line has the endpoint
and not the address, which may hold a phone number, and of a key no more than its beginning. Behind
trusted proxies the peer is the one that the last of them names.
"""

from __future__ import annotations

import ipaddress
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from gateway.ingress.http.request import Request

LINES_MAX = 100  # a second, of an app's refusals of one kind in a worker
GUESSER_MAX = 64  # characters of an address that is not believed
HOPS_MAX = 32  # addresses of X-Forwarded-For that are looked at

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_log = structlog.get_logger("ingress")


class RequestOutcome(NamedTuple):
    """What came of a request: the kind of its problem, with its status, or `done`, whose status is
    that of the answer."""

    kind: str
    status: int = 0


DONE = RequestOutcome("done")


class _Alike:
    """Refusals of one kind to one app in one second: how many, and how many had no line until now
    since the last that had one."""

    __slots__ = ("count", "second", "untold")

    def __init__(self) -> None:
        self.second = self.count = self.untold = 0


class RequestLog:
    """`clock` gives seconds."""

    def __init__(
        self, trusted_proxies: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._refused: defaultdict[tuple[str, str], _Alike] = defaultdict(_Alike)
        self._trusted = [ipaddress.ip_network(each, strict=False) for each in trusted_proxies]

    def tell(
        self, request: Request, endpoint: str, outcome: RequestOutcome, seconds: float
    ) -> None:
        """What came of a request. What was only read is told for debugging."""
        status = outcome.status or request.status
        worth_a_line = status >= 400 or request.method not in _READS
        more: dict[str, int] = {}
        if status >= 400:
            alike = self._refused[request.principal.app, outcome.kind]
            if not self._has_line(alike):
                return
            if alike.untold:
                more = {"untold": alike.untold}
                alike.untold = 0
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
            **more,
        )

    def _has_line(self, alike: _Alike) -> bool:
        second = int(self._clock())
        if second != alike.second:
            alike.second, alike.count = second, 0
        alike.count += 1
        if alike.count <= LINES_MAX:
            return True
        alike.untold += 1
        return False

    def asker(self, request: Request) -> str:
        """Who asks."""
        return self.peer_of(request.peer, request.lines(b"x-forwarded-for"))

    def guesser(self, request: Request) -> str:
        """On whom what was asked for in vain is put. Where no proxies are named and yet one is in
        front, all people would be one peer, and one of them could keep the others from what they
        ask for: there they are told apart by who it says asks, believed or not."""
        forwarded = request.lines(b"x-forwarded-for")
        if forwarded is None or self._trusted:
            return self.peer_of(request.peer, forwarded)
        last = forwarded.decode("latin-1").rpartition(",")[2].strip()
        return f"{request.peer} {last[:GUESSER_MAX]}"

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
