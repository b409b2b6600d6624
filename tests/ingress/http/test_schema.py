"""The OpenAPI document held against the application: requests that fit it and requests that do not
are all answered as it says, and never by a fault of ours."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
import urllib3
import uvloop
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.ingress.http.openapi import document
from gateway.ingress.http.route import DocumentedSettings
from gateway.ingress.http.routes import ROUTES
from tests.worlds.ingress_world import Clock, World, opened_world, settings

# What runs here runs in the tests of each endpoint too, and counting its lines costs as much again.
pytestmark = pytest.mark.no_cover

EXAMPLES = 20  # an operation and mode
ANY_TEXT = {"type", "examples"}
BASE = "http://gateway.example"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

DOCUMENT = document(ROUTES, DocumentedSettings(1_000, ("viber", "sms")))
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
# An event stream has no end, and no body is made of lines: test_events.py, test_stored_users.py.
RESULTS = SCHEMA.exclude(path=["/v1/events", "/v1/users"]).get_all_operations()
OPERATIONS = {(found := result.ok()).label: found for result in RESULTS if isinstance(result, Ok)}

Call = Callable[[requests.PreparedRequest], requests.Response]


@pytest.fixture
def call(redis_url: str) -> Iterator[Call]:
    """Sends a request to a worker that lives as long as the test."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        opening = opened_world(redis_url, settings(), Clock())
        world: World = runner.run(opening.__aenter__())

        def send(request: requests.PreparedRequest) -> requests.Response:
            return runner.run(_answered(world, request))

        yield send
        runner.run(opening.__aexit__(None, None, None))


async def _answered(world: World, request: requests.PreparedRequest) -> requests.Response:
    parts = urlsplit(request.url or "")
    headers = {name: _latin(value) for name, value in request.headers.items()}
    body = request.body or b""
    exchange = world.begin(request.method or "", f"{parts.path}?{parts.query}", headers, key="")
    octets = body.encode() if isinstance(body, str) else body
    assert isinstance(octets, bytes)
    exchange.feed(octets, more=False)
    answer = await exchange.answer()
    raw = urllib3.HTTPResponse(
        io.BytesIO(answer.body), answer.headers, answer.status, preload_content=False
    )
    return requests.adapters.HTTPAdapter().build_response(request, raw)


def _latin(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_one_the_document_names(
    label: str, mode: GenerationMode, call: Call
) -> None:
    operation = OPERATIONS[label]
    if mode is GenerationMode.NEGATIVE and not _can_be_wrong(operation):
        return

    @bounded(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def each(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        key = data.draw(st.sampled_from(["shop-key"] * 6 + ["reader-key", "wrong"]))
        case.headers["Authorization"] = f"Bearer {key}"
        request = requests.Request(**case.as_transport_kwargs(base_url=BASE)).prepare()
        case.validate_response(call(request), checks=CHECKS)

    each()


def _can_be_wrong(operation: Any) -> bool:
    """Whether it has input that could break the document; any text will do as a part of a path that
    is said to be a text."""
    narrowed = (each.definition["schema"].keys() - ANY_TEXT for each in operation.path_parameters)
    others = (operation.body, list(operation.query), list(operation.headers))
    return any(others) or any(narrowed)


def test_every_operation_with_one_body_and_an_end_is_looked_at() -> None:
    methods = {"get", "put", "patch", "post", "delete"}
    count = sum(len(methods & item.keys()) for item in DOCUMENT["paths"].values())
    assert len(OPERATIONS) == count - 2


@pytest.mark.parametrize(
    ("name", "kind", "path", "status"),
    [
        ("send", "application/json", "/v1/messages", 202),
        ("send", "application/x-ndjson", "/v1/messages", 200),
        ("searchMessages", "application/json", "/v1/messages/search", 200),
        ("putOptOut", "application/json", "/v1/optouts/+79161234567", 200),
        ("callback", "application/json", "/v1/callbacks/viber?token=tok", 200),
    ],
)
def test_the_documents_examples_are_taken(
    name: str, kind: str, path: str, status: int, call: Call
) -> None:
    (method, operation) = next(
        (method, operation)
        for item in DOCUMENT["paths"].values()
        for method, operation in item.items()
        if operation["operationId"] == name
    )
    example = operation["requestBody"]["content"][kind]["examples"]["one"]["value"]
    request = requests.Request(
        method.upper(),
        BASE + path,
        headers={"Authorization": "Bearer shop-key", "Content-Type": kind},
        data=example if isinstance(example, str) else json.dumps(example),
    )
    answer = call(request.prepare())
    assert answer.status_code == status
    assert b"rejected" not in answer.content
