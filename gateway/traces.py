"""Traces by OpenTelemetry: what becomes of a message, over processes. Off unless a collector is
configured.

A message that is traced carries the context of its acceptance (a W3C `traceparent`) in its record;
each later span names that as its parent, so that one trace tells a message's life. The caller's
`traceparent` decides whether a request is traced; of those without one a share is. What is not
traced meets no OpenTelemetry: nothing stands in its record. No address, text or token is in an
attribute.

Spans are exported by a thread of the library, in batches; while the collector is away they are
lost, and nothing else is. The library is that of the extra `otel`; without it `require` raises
MissingExtra.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from gateway.extras import library
from gateway.telemetry import Role
from gateway.version import VERSION

EXTRA = "otel"
EXPORT_WITHIN_MS = 2_000  # one batch, and what is left at the end
LINKS_MAX = 32  # of a span about several messages

_traceparent = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})").fullmatch


def require() -> None:
    """Raises MissingExtra where the libraries are not installed."""
    library("opentelemetry.sdk.trace", EXTRA)
    library("opentelemetry.exporter.otlp.proto.http.trace_exporter", EXTRA)


class Traces:
    """One process's; `tracer` is OpenTelemetry's, `share` of the requests without a context are
    traced. `clock` gives epoch nanoseconds."""

    def __init__(self, tracer: Any, share: float, clock: Callable[[], int] = time.time_ns) -> None:
        self._tracer = tracer
        self._share = share
        self.clock = clock
        self._trace = library("opentelemetry.trace", EXTRA)

    def asked(self, given: bytes | None) -> bool:
        """Whether a request with this header `traceparent` is traced."""
        match = None if given is None else _traceparent(given.decode("latin-1").strip())
        if match is None:
            return random.random() < self._share
        return bool(int(match[3], 16) & 1)

    @contextmanager
    def accepting(self, given: bytes | None, app: str) -> Iterator[str]:
        """The span of a request whose messages are accepted within the block; gives the context
        that they carry."""
        parent = "" if given is None else given.decode("latin-1").strip()
        span = self._start("accept", parent, {"kaskad.app": app}, self.clock(), "SERVER")
        context = span.get_span_context()
        try:
            yield f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
        finally:
            span.end(self.clock())

    def decided(self, carried: Sequence[str], began_ns: int, messages: int) -> None:
        """One transaction decided so many messages; `carried` are those that are traced."""
        first, *others = carried
        links = [self._trace.Link(self._context(each)) for each in others[:LINKS_MAX]]
        about: dict[str, str | int] = {"kaskad.batch": messages}
        self._start("decide", first, about, began_ns, "INTERNAL", links).end(self.clock())

    def sent(
        self, carried: str, provider: str, accepted: bool, code: str, batch: int, began_ns: int
    ) -> None:
        """A provider was asked to take a message, among so many in one request."""
        attributes: dict[str, str | int] = {"kaskad.provider": provider, "kaskad.batch": batch}
        span = self._start("send", carried, attributes, began_ns, "CLIENT")
        if not accepted:
            span.set_attribute("error.type", code or "refused")
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(self.clock())

    def received(self, carried: str, provider: str, status: str) -> None:
        """A provider told what became of a message."""
        attributes = {"kaskad.provider": provider, "kaskad.status": status}
        now_ns = self.clock()
        self._start("receipt", carried, attributes, now_ns, "CONSUMER").end(now_ns)

    def told(
        self, carried: str, app: str, taken: bool, status: int | None, latency_ms: int
    ) -> None:
        """A webhook of an app was called about a message."""
        now_ns = self.clock()
        began_ns = now_ns - latency_ms * 1_000_000
        span = self._start("webhook", carried, {"kaskad.app": app}, began_ns, "CLIENT")
        if status is not None:
            span.set_attribute("http.response.status_code", status)
        if not taken:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(now_ns)

    def _start(
        self,
        name: str,
        parent: str,
        attributes: Mapping[str, str | int],
        began_ns: int,
        kind: str,
        links: Sequence[Any] = (),
    ) -> Any:
        context, trace = None, self._trace
        if (found := self._context(parent)) is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(found))
        return self._tracer.start_span(
            name,
            context=context,
            kind=trace.SpanKind[kind],
            attributes=attributes,
            links=links,
            start_time=began_ns,
        )

    def _context(self, carried: str) -> Any:
        """OpenTelemetry's of what a request or message carries; None: it carries none."""
        match = _traceparent(carried)
        if match is None:
            return None
        trace_id, span_id = int(match[1], 16), int(match[2], 16)
        flags = self._trace.TraceFlags(1)
        context = self._trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
        return context if context.is_valid else None


@contextmanager
def open_traces(endpoint: str, share: float, role: Role) -> Iterator[Traces | None]:
    """For as long as the block, in the process that traces: the thread that exports survives no
    fork. None without an endpoint. What was not exported at the end is, within
    EXPORT_WITHIN_MS."""
    if not endpoint:
        yield None
        return
    sdk = library("opentelemetry.sdk.trace", EXTRA)
    exporting = library("opentelemetry.sdk.trace.export", EXTRA)
    otlp = library("opentelemetry.exporter.otlp.proto.http.trace_exporter", EXTRA)
    resources = library("opentelemetry.sdk.resources", EXTRA)
    resource = resources.Resource.create(
        {"service.name": f"kaskad-{role}", "service.version": VERSION}
    )
    sampler = library("opentelemetry.sdk.trace.sampling", EXTRA).ALWAYS_ON
    provider = sdk.TracerProvider(sampler, resource, shutdown_on_exit=False)
    exporter = otlp.OTLPSpanExporter(
        endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_WITHIN_MS / 1000
    )
    provider.add_span_processor(exporting.BatchSpanProcessor(exporter))
    try:
        yield Traces(provider.get_tracer("kaskad", VERSION), share)
    finally:
        provider.force_flush(EXPORT_WITHIN_MS)
        provider.shutdown()
