"""The answer to one request, read with httptools as its bytes come.

It is bounded, never compressed, and whole or none: whatever is malformed, too large or cut short is
a fault of the one request, whose connection cannot be kept.
"""

from __future__ import annotations

import httptools
import httpx2

HEAD_BYTES_MAX = 64 * 1024  # status line, header lines and any 1xx answers before them
BODY_BYTES_MAX = 1024 * 1024
IDLE_S_MAX = 15.0  # below the keep-alive time of common servers, so that they seldom close first
IDLE_MARGIN_S = 1.0  # of a server's announced keep-alive time


class ReplyReader:
    """One answer, read with httptools; 1xx answers before it and trailers are skipped. Names of
    `headers` are in lower case.

    Raises httpx2.RemoteProtocolError on anything malformed, too large, cut short or compressed.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.done = False
        self.keep_alive = False
        self.idle_s_max = IDLE_S_MAX
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._bytes_in = 0
        self.has_head = False
        self._has_more = False

    def feed(self, data: bytes | bytearray) -> None:
        self._bytes_in += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.done:
                raise httpx2.RemoteProtocolError(f"The answer is not HTTP: {error}") from error
            self._has_more = True
        if self._has_more:
            self.keep_alive = False  # bytes nobody asked for: the next answer could be misread
        if not self.has_head and self._bytes_in > HEAD_BYTES_MAX:
            raise httpx2.RemoteProtocolError(f"The head is over {HEAD_BYTES_MAX} bytes.")
        if self._bytes_in > HEAD_BYTES_MAX + BODY_BYTES_MAX:
            raise httpx2.RemoteProtocolError(f"The body is over {BODY_BYTES_MAX} bytes.")
        if self.done:
            self._refuse_compressed()

    def end(self) -> None:
        """The peer closed: the end of a body without a length, else an answer cut short."""
        if not self.has_head or self._header(b"content-length", b"transfer-encoding") is not None:
            raise httpx2.RemoteProtocolError("The connection ended before the answer did.")
        self._refuse_compressed()
        self._finish()

    def cut(self) -> None:
        """The answer ends here, where it stands."""
        self._chunks = [] if self._is_compressed else self._chunks
        self._finish()
        self.keep_alive = False

    @property
    def _is_compressed(self) -> bool:
        return (self._header(b"content-encoding") or b"identity").lower() != b"identity"

    def _refuse_compressed(self) -> None:
        # "identity" is what we ask for; unpacking what a server sends all the same would need
        # bounds of its own.
        if self._is_compressed:
            raise httpx2.RemoteProtocolError("The answer is compressed, which was not asked for.")

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self.done:
            self._has_more = True
        else:
            self.headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_head:  # behind the head it is a trailer, of which a body's room has many
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if not self.done:
            self.status = self._parser.get_status_code()
            self.has_head = self.status >= 200

    def on_body(self, data: bytes) -> None:
        if not self.done:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        if self.has_head and not self.done:
            self.keep_alive = self._parser.should_keep_alive()
            self._finish()

    def _finish(self) -> None:
        self.body = b"".join(self._chunks)
        self.idle_s_max = _idle_s(self._header(b"keep-alive"))
        self.done = True

    def _header(self, *names: bytes) -> bytes | None:
        return next((value for name, value in self.headers if name in names), None)


def _idle_s(keep_alive: bytes | None) -> float:
    """Seconds a connection may idle, from a `Keep-Alive: timeout=5, max=100` header."""
    for item in (keep_alive or b"").split(b","):
        name, _, value = item.strip().partition(b"=")
        if name.lower() == b"timeout" and value.isdigit():
            return min(max(int(value[:6]) - IDLE_MARGIN_S, 0.0), IDLE_S_MAX)
    return IDLE_S_MAX
