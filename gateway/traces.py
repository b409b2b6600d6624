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
from functools import partial
from typing import Any

from gateway.extras import library
from gateway.telemetry import RoleName
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
    """One process's; `ended` takes the spans, as OpenTelemetry's processors do, of `resource`. Of
    the requests without a context a `share` is traced. `clock` gives epoch nanoseconds.

    A span is made when it is over, at once as what is exported: made by a tracer it costs four
    times as much (2026-11-29), for what nobody asks here: samplers, limits, a current span."""

    def __init__(
        self,
        ended: Callable[[Any], None],
        resource: Any,
        share: float,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._ended = ended
        self._share = share
        self.clock = clock
        self._trace = trace = library("opentelemetry.trace", EXTRA)
        self._error = trace.Status(trace.StatusCode.ERROR)
        self._unset = trace.Status(trace.StatusCode.UNSET)
        self._sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        self._make = partial(
            library("opentelemetry.sdk.trace", EXTRA).ReadableSpan,
            resource=resource,
            instrumentation_scope=library(
                "opentelemetry.sdk.util.instrumentation", EXTRA
            ).InstrumentationScope("kaskad", VERSION),
        )

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
        parent = self._context("" if given is None else given.decode("latin-1").strip())
        context, began_ns = self._new(parent), self.clock()
        try:
            yield f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
        finally:
            lasted = began_ns, self.clock()
            self._tell("accept", parent, {"kaskad.app": app}, lasted, "SERVER", context=context)

    def decided(self, carried: Sequence[str], began_ns: int, messages: int) -> None:
        """One transaction decided so many messages; `carried` are those that are traced."""
        first, *others = carried
        links = [self._trace.Link(self._context(each)) for each in others[:LINKS_MAX]]
        about: dict[str, str | int] = {"kaskad.batch": messages}
        lasted = began_ns, self.clock()
        self._tell("decide", self._context(first), about, lasted, "INTERNAL", links=links)

    def sent(
        self, carried: str, provider: str, accepted: bool, code: str, batch: int, began_ns: int
    ) -> None:
        """A provider was asked to take a message, among so many in one request."""
        about: dict[str, str | int] = {"kaskad.provider": provider, "kaskad.batch": batch}
        if not accepted:
            about["error.type"] = code or "refused"
        lasted = began_ns, self.clock()
        self._tell("send", self._context(carried), about, lasted, "CLIENT", fault=not accepted)

    def received(self, carried: str, provider: str, status: str) -> None:
        """A provider told what became of a message."""
        about = {"kaskad.provider": provider, "kaskad.status": status}
        now_ns = self.clock()
        self._tell("receipt", self._context(carried), about, (now_ns, now_ns), "CONSUMER")

    def told(
        self, carried: str, app: str, taken: bool, status: int | None, latency_ms: int
    ) -> None:
        """A webhook of an app was called about a message."""
        about: dict[str, str | int] = {"kaskad.app": app}
        if status is not None:
            about["http.response.status_code"] = status
        now_ns = self.clock()
        lasted = now_ns - latency_ms * 1_000_000, now_ns
        self._tell("webhook", self._context(carried), about, lasted, "CLIENT", fault=not taken)

    def _tell(
        self,
        name: str,
        parent: Any,
        attributes: Mapping[str, str | int],
        lasted: tuple[int, int],
        kind: str,
        *,
        links: Sequence[Any] = (),
        fault: bool = False,
        context: Any = None,
    ) -> None:
        """A span that is over; it `lasted` from and until so many epoch nanoseconds."""
        span = self._make(
            name,
            context=self._new(parent) if context is None else context,
            parent=parent,
            attributes=attributes,
            links=links,
            kind=self._trace.SpanKind[kind],
            status=self._error if fault else self._unset,
            start_time=lasted[0],
            end_time=lasted[1],
        )
        self._ended(span)

    def _new(self, parent: Any) -> Any:
        """The context of a new span."""
        trace_id = random.getrandbits(128) if parent is None else parent.trace_id
        return self._trace.SpanContext(
            trace_id, random.getrandbits(64), is_remote=False, trace_flags=self._sampled
        )

    def _context(self, carried: str) -> Any:
        """OpenTelemetry's of what a request or message carries; None: it carries none."""
        match = _traceparent(carried)
        if match is None:
            return None
        trace_id, span_id = int(match[1], 16), int(match[2], 16)
        context = self._trace.SpanContext(
            trace_id, span_id, is_remote=True, trace_flags=self._sampled
        )
        return context if context.is_valid else None


@contextmanager
def open_traces(endpoint: str, share: float, role: RoleName) -> Iterator[Traces | None]:
    """For as long as the block, in the process that traces: the thread that exports survives no
    fork. None without an endpoint. What was not exported at the end is, within
    EXPORT_WITHIN_MS."""
    if not endpoint:
        yield None
        return
    exporting = library("opentelemetry.sdk.trace.export", EXTRA)
    otlp = library("opentelemetry.exporter.otlp.proto.http.trace_exporter", EXTRA)
    exporter = otlp.OTLPSpanExporter(
        endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_WITHIN_MS / 1000
    )
    spans = exporting.BatchSpanProcessor(exporter)
    try:
        yield Traces(spans.on_end, _resource(role), share)
    finally:
        spans.force_flush(EXPORT_WITHIN_MS)
        spans.shutdown()


def _resource(role: RoleName) -> Any:
    """What all spans of a process are of. The exporter hashes it for each span, and a Resource does
    that by its JSON: ours is what it is."""
    resources = library("opentelemetry.sdk.resources", EXTRA)
    made = resources.Resource.create({"service.name": f"kaskad-{role}", "service.version": VERSION})
    same = type("Resource", (resources.Resource,), {"__hash__": object.__hash__})
    return same(made.attributes, made.schema_url)
