"""The invoice that the demo makes: which faults are planted in it, and what counts as found."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from msgspec.structs import replace

from gateway.demo.invoice import PLANTED, STRANGER, TOO_DEAR, Invoice, planted
from providers.simulator.book import MessageBill


def bill(**changes: object) -> MessageBill:
    needed = [field.name for field in msgspec.structs.fields(MessageBill) if field.required]
    shape: dict[str, object] = dict.fromkeys(needed, 0)
    shape |= {"channel": "sms", "to": "447700900123", "outcome": "delivered", "status": ""}
    shape |= {"parts": 2, "charge": "0.08", "currency": "EUR", "delivered": True, "seen": False}
    return msgspec.convert(shape | changes, MessageBill)


def test_one_line_is_too_dear_one_stands_twice_and_one_is_nobodys() -> None:
    messages = {
        "a": bill(),
        "b": bill(),
        "free": bill(charge="0"),
        "other": bill(channel="viber"),
        "c": bill(),
    }
    lines = list(planted(messages, "sms"))
    assert [line[0] for line in lines] == ["a", "b", "c", "c", STRANGER[0]]
    part = Decimal("0.04")
    assert [line[-1] for line in lines] == [part + TOO_DEAR, part, part, part, part]
    assert {line[2] for line in lines} == {"1970-01-01T00:00:00+00:00"}


@pytest.mark.parametrize("charged", [0, 1, 2])
def test_there_is_no_invoice_over_too_few_lines(charged: int) -> None:
    assert not list(planted({str(n): bill() for n in range(charged)}, "sms"))


def test_what_is_found_is_what_was_planted_and_nothing_else() -> None:
    invoice = Invoice("p", 9, dict.fromkeys(PLANTED, 1), "0.0340", "EUR", None)
    assert invoice.as_planted
    for found in (
        {},
        dict.fromkeys(PLANTED[1:], 1),
        dict.fromkeys(PLANTED, 2),
        dict.fromkeys((*PLANTED, "parts"), 1),
    ):
        assert not replace(invoice, found=found).as_planted
