"""State and documents."""

from __future__ import annotations

import msgspec

from gateway.ingress.api.operators.health import Health, Readiness
from gateway.ingress.http.documented import json_payload, text_payload
from gateway.ingress.http.route import HttpRoute
from gateway.ingress.http.routes.endpoints import Endpoints

_METRICS = '# TYPE kaskad_build_info gauge\nkaskad_build_info{version="1.0.0"} 1.0\n'

STATE: tuple[HttpRoute[Endpoints], ...] = (
    HttpRoute(
        method="GET",
        path="/healthz",
        name="health",
        on_admin_port="too",
        handler=lambda endpoints: endpoints.health.health,
        tag="State",
        summary="Alive",
        answers={200: json_payload("It answers.", Health, msgspec.to_builtins(Health()))},
    ),
    HttpRoute(
        method="GET",
        path="/readyz",
        name="readiness",
        on_admin_port="too",
        handler=lambda endpoints: endpoints.health.readiness,
        tag="State",
        summary="Ready: Redis can be reached",
        answers={
            200: json_payload("Ready.", Readiness),
            503: json_payload("Not ready.", Readiness),
        },
    ),
    HttpRoute(
        method="GET",
        path="/metrics",
        name="metrics",
        on_admin_port="only",
        handler=lambda endpoints: endpoints.health.metrics,
        tag="State",
        summary="Metrics for Prometheus",
        answers={200: text_payload("The metrics.", "text/plain", _METRICS)},
    ),
    HttpRoute(
        method="GET",
        path="/",
        name="start",
        handler=lambda endpoints: endpoints.docs.start,
    ),
    HttpRoute(
        method="GET",
        path="/openapi.json",
        name="openapi",
        handler=lambda endpoints: endpoints.docs.openapi,
        tag="State",
        summary="This document",
        answers={200: json_payload("OpenAPI 3.1.", {"type": "object"}, {"openapi": "3.1.0"})},
    ),
    HttpRoute(
        method="GET",
        path="/docs",
        name="docs",
        handler=lambda endpoints: endpoints.docs.page,
        tag="State",
        summary="This document, for people",
        answers={200: text_payload("The page.", "text/html", "<!doctype html>")},
    ),
)
