"""The cost report in the OpenAPI document; `gateway.finance` owns what it answers."""

from __future__ import annotations

from gateway.finance.report import FILTERS, KEYS
from gateway.ingress.http.openapi_parts import Doc, problems

_TEXT: Doc = {"type": ["string", "null"]}
_COUNT: Doc = {"type": ["integer", "null"]}
_COUNTS = (
    "accepted",
    "duplicates",
    "suppressed",
    "sent",
    "delivered",
    "double_delivered",
    "undelivered",
    "parts",
)
_AMOUNTS = ("cost", "billed", "cost_per_delivered", "sms_only_cost", "saved", "saved_pct")


def cost() -> Doc:
    """The operation `GET /v1/reports/cost`."""
    row = {
        "type": "object",
        "properties": {
            **dict.fromkeys(KEYS + _AMOUNTS, _TEXT),
            **dict.fromkeys(_COUNTS, _COUNT),
            "currency": {"type": "string"},
        },
    }
    report = {
        "type": "object",
        "required": ["from", "to", "group_by", "rows", "total"],
        "properties": {
            "from": {"type": "string", "format": "date"},
            "to": {"type": "string", "format": "date"},
            "group_by": {"type": "array", "items": {"enum": list(KEYS)}},
            "rows": {"type": "array", "items": row},
            "total": row,
        },
    }
    return {
        "operationId": "costReport",
        "tags": ["Reports"],
        "summary": "What was sent and delivered, and what it cost",
        "description": "All amounts are exact decimal strings and add up to the ledger. Whoever "
        "has the scope `report` sees every app.",
        "security": [{"key": ["report"]}],
        "parameters": [
            _query("from", "First day, UTC.", {"type": "string", "format": "date"}),
            _query("to", "Last day, UTC.", {"type": "string", "format": "date"}),
            _query(
                "group_by",
                f"Names between commas, of: {', '.join(KEYS)}.",
                {"type": "string", "examples": ["campaign,channel"]},
            ),
            _query("format", "json or csv.", {"enum": ["json", "csv"]}),
            *(_query(name, f"Only this {name}.", {"type": "string"}) for name in FILTERS),
        ],
        "responses": {
            "200": {
                "description": "The report.",
                "content": {
                    "application/json": {"schema": report},
                    "text/csv": {"schema": {"type": "string"}},
                },
            },
            **problems(400, 401, 403, 422, 503),
        },
    }


def _query(name: str, text: str, schema: Doc) -> Doc:
    return {"name": name, "in": "query", "description": text, "schema": schema}
