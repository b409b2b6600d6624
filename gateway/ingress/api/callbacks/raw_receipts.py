"""What of a callback's body speaks of one receipt, as it came but for what nobody is to see. Pure.

A body with several receipts is cut at its lists: each has the innermost element that names it. Out
of it are secrets (tokens, signatures), texts that people were sent, and what follows the `?` of an
address.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl

from msgspec.structs import replace

from providers.contract import Receipt

FIELDS_MAX = 100  # of a form
DEPTH_MAX = 16
HIDDEN = "***"
_secret = re.compile(
    r"token|secret|passw|signature|auth|credential|api.?key|hash|^sign?$", re.IGNORECASE
).search
_texts = frozenset(("text", "body", "html", "subject", "content", "mes"))

ShownReceipt = dict[str, Any]


def with_raw(receipts: Sequence[Receipt], body: bytes) -> list[Receipt]:
    """The receipts of a body, each with what speaks of it; without where that is not to be told
    from what speaks of others."""
    whole = _read(body)
    by_name: dict[str, ShownReceipt] = {}
    for name, element in _names(whole, whole, 0):
        by_name.setdefault(name, element)
    found = []
    for receipt in receipts:
        names = filter(None, (receipt.ref, receipt.provider_id))
        element = next((by_name[name] for name in names if name in by_name), whole)
        told = element is not whole or len(receipts) == 1
        raw = json.dumps(_shown(element), ensure_ascii=False) if told else ""
        found.append(replace(receipt, raw=raw))
    return found


def _read(body: bytes) -> ShownReceipt:
    """A document, or a form's fields."""
    document = _document(body)
    if document is None:
        fields = parse_qsl(body.decode(errors="replace"))
        return dict(fields[:FIELDS_MAX])
    return document if isinstance(document, dict) else {"": document}


def _document(text: str | bytes) -> Any:
    """None: it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _names(node: Any, element: ShownReceipt, depth: int) -> Iterator[tuple[str, ShownReceipt]]:
    """Every value that may be a name, with the innermost element of a list that holds it."""
    if depth > DEPTH_MAX:
        return
    if isinstance(node, dict):
        for value in node.values():
            yield from _names(value, element, depth + 1)
    elif isinstance(node, list):
        for value in node:
            inside = value if isinstance(value, dict) else element
            yield from _names(value, inside, depth + 1)
    elif isinstance(node, str | int):
        yield str(node), element


def _shown(node: Any, name: str = "", depth: int = 0) -> Any:
    if _secret(name) or depth > DEPTH_MAX:
        return HIDDEN
    if isinstance(node, dict):
        return {key: _shown(value, key, depth + 1) for key, value in node.items()}
    if isinstance(node, list):
        return [_shown(value, name, depth + 1) for value in node]
    if isinstance(node, str):
        if name.lower() in _texts:
            return HIDDEN
        if node.startswith("{"):
            return _shown(inside, name, depth + 1) if (inside := _document(node)) else HIDDEN
        if node.startswith(("http://", "https://")) and "?" in node:
            return node.partition("?")[0] + "?" + HIDDEN
    return node
