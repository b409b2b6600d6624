"""What is called for each message is called as CPython calls it cheapest.

Of more than 30 arguments, a named one counted twice, it makes a tuple and a dict first: 0.4 µs."""

from __future__ import annotations

import dis
from collections.abc import Callable

import pytest

from gateway.core import admission
from gateway.ingress.intake.admission_queue import AdmissionQueue


@pytest.mark.parametrize("made_by", [AdmissionQueue._prepare, admission._message])
def test_no_tuple_and_dict_is_made_of_a_messages_fields(made_by: Callable[..., object]) -> None:
    assert "CALL_FUNCTION_EX" not in {step.opname for step in dis.get_instructions(made_by)}
