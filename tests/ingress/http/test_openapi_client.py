"""A client that a foreign library makes of /openapi.json does what an application does."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.worlds.ingress_world import PHONE, World, with_ingress

BASE = "http://gateway.example"


@with_ingress()
async def test_a_client_made_of_the_document_sends_reads_and_cancels(world: World) -> None:
    from aiopenapi3 import OpenAPI  # here, because nobody else waits for it: it takes half a second

    async def carry(request: httpx2.Request) -> httpx2.Response:
        target = request.url.raw_path.decode()
        body = await request.aread()
        answer = await world.call(request.method, target, body, request.headers, key="")
        return httpx2.Response(answer.status, headers=answer.headers, content=answer.body)

    class Carried(httpx2.AsyncClient):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options, transport=httpx2.MockTransport(carry))

    client = await OpenAPI.load_async(f"{BASE}/openapi.json", session_factory=Carried)
    client.authenticate(key="shop-key")
    message = {"to": PHONE, "category": "transactional", "text": "Order 7 is paid."}
    sent = await client._.send(data=message, parameters={"Idempotency-Key": "order-7"})
    assert sent.outcome == "accepted"
    read = await client._.getMessage(parameters={"id": sent.id})
    assert (read.id, read.status, read.final) == (sent.id, "queued", False)
    cancelled = await client._.cancelMessage(parameters={"id": sent.id})
    assert (cancelled.id, cancelled.status, cancelled.final) == (sent.id, "cancelled", True)
