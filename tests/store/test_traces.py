"""Traces: who is traced, what a span says, and that nothing is asked of the library else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.settings.file import SettingsError, parse
from gateway.store.messages import reads
from gateway.traces import Traces, open_traces
from tests.worlds.dispatch_world import dispatching, under_trio, world
from tests.worlds.ingress_world import CONFIG, ENV, OTP, PHONE, SALE, World, with_ingress

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
GIVEN = f"00-{TRACE}-00f067aa0ba902b7-01"
UNTRACED = f"00-{TRACE}-00f067aa0ba902b7-00"


class Collector:
    """Traces that are kept here instead of being exported."""

    def __init__(self, share: float = 0.0) -> None:
        self.kept = InMemorySpanExporter()
        ended = SimpleSpanProcessor(self.kept).on_end
        self.traces = Traces(ended, Resource.get_empty(), share)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.kept.get_finished_spans()}

    def said(self) -> str:
        return json.dumps([json.loads(s.to_json()) for s in self.kept.get_finished_spans()])


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


@with_ingress()
async def test_a_callers_context_goes_on_to_the_decision_the_record_and_the_receipt(
    world: World,
) -> None:
    collector = Collector()
    world.store.traces = collector.traces
    sent = await world.send(SALE, traceparent=GIVEN)
    accept, decide = collector.spans["accept"], collector.spans["decide"]
    assert f"{accept.context.trace_id:032x}" == TRACE
    assert parent_of(accept) == 0x00F067AA0BA902B7
    assert parent_of(decide) == accept.context.span_id
    message = await reads.message(world.store, sent.json["id"])
    assert message is not None
    assert message.trace == f"00-{TRACE}-{accept.context.span_id:016x}-01"
    receipt = {"results": [{"messageId": f"{message.id}.0", "status": {"groupId": 3, "id": 5}}]}
    assert (await world.call("POST", "/v1/callbacks/viber?token=tok", receipt)).status == 200
    told = collector.spans["receipt"]
    assert parent_of(told) == accept.context.span_id
    assert dict(told.attributes or {})["kaskad.status"] == "delivered"
    said = collector.said()
    for secret in (PHONE[1:], SALE["text"], "tok", "shop-key"):
        assert secret not in said


@pytest.mark.parametrize("headers", [{}, {"traceparent": UNTRACED}, {"traceparent": "nonsense"}])
@with_ingress()
async def test_what_is_not_traced_leaves_nothing(world: World, headers: dict[str, str]) -> None:
    collector = Collector(share=0.0)
    world.store.traces = collector.traces
    sent = await world.send(OTP, **headers)
    message = await reads.message(world.store, sent.json["id"])
    assert message is not None
    assert (message.trace, collector.spans) == ("", {})


@with_ingress()
async def test_a_share_is_traced_by_itself_and_each_line_of_a_stream(world: World) -> None:
    collector = Collector(share=1.0)
    world.store.traces = collector.traces
    stream = world.stream()
    stream.feed(json.dumps(OTP).encode() + b"\n" + json.dumps(SALE).encode(), more=False)
    lines = (await stream.answer()).lines
    found = [await reads.message(world.store, line["id"]) for line in lines]
    assert len({m.trace for m in found if m is not None}) == 2
    assert parent_of(collector.spans["accept"]) is None
    await world.send([OTP, SALE])
    assert len(collector.kept.get_finished_spans()) >= 4


@under_trio
async def test_each_try_at_a_provider_is_a_span(redis_url: str) -> None:
    async with world(redis_url) as w:
        collector = Collector()
        w.store.traces = collector.traces
        (id_,) = await w.admit(1, trace=GIVEN)
        async with dispatching(w):
            await w.until([id_], "sent", "planned")
        span = collector.spans["send"]
        assert parent_of(span) == 0x00F067AA0BA902B7
        assert dict(span.attributes or {}) == {"kaskad.provider": "viber", "kaskad.batch": 1}


def test_a_call_of_a_webhook_is_a_span_that_says_whether_it_was_taken() -> None:
    collector = Collector()
    collector.traces.told(GIVEN, "shop", False, 500, 20)
    span = collector.spans["webhook"]
    assert parent_of(span) == 0x00F067AA0BA902B7
    assert dict(span.attributes or {})["http.response.status_code"] == 500
    assert not span.status.is_ok
    assert (span.end_time or 0) - (span.start_time or 0) == 20_000_000


def test_without_an_endpoint_there_is_none() -> None:
    with open_traces("", 0.5, "ingress") as traces:
        assert traces is None


def test_a_missing_library_is_a_fault_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    text = CONFIG.format(server="", shards=1) + '[traces]\nendpoint = "http://127.0.0.1:4318"\n'
    assert parse(text, Path("/nowhere/kaskad.toml"), ENV).traces.sample == 0.01

    def missing(name: str, *_: Any) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("gateway.extras.importlib.import_module", missing)
    with pytest.raises(SettingsError, match=r"kaskad\[otel\]"):
        parse(text, Path("/nowhere/kaskad.toml"), ENV)
