"""The numbers that tell the parts of one text from those of another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import ids
from providers.smpp import part_references, texts
from providers.smpp.part_references import NUMBERS, PartReferences
from tests.worlds.smsc import Smsc, session, submission

TO = "+79161234567"
SENDINGS = 10  # of one step, more than any setting allows
MOMENTS = st.integers(0, 2**45 - 1)
CHANCE = st.integers(0, 2**45 - 1)


@given(MOMENTS, CHANCE, st.integers(0, 9))
def test_sendings_of_one_text_differ_whichever_process_sends_them(
    now_ms: int, chance: int, step: int
) -> None:
    message = ids.new_id(now_ms, 7, chance)
    refs = [ids.step_ref(message, step, series) for series in range(SENDINGS)]
    numbers = {PartReferences().take(ref, TO) % NUMBERS for ref in refs}
    assert len(numbers) == SENDINGS


@given(st.sets(CHANCE, min_size=2, max_size=NUMBERS))
def test_texts_to_one_person_differ_while_there_are_numbers(chances: set[int]) -> None:
    references = PartReferences()
    refs = [ids.step_ref(ids.new_id(0, 7, chance), 0) for chance in chances]
    numbers = {references.take(ref, TO) % NUMBERS for ref in refs}
    assert len(numbers) == len(refs)


def test_a_person_with_every_number_in_use_still_gets_one() -> None:
    references = PartReferences()
    numbers = [references.take(f"m-{n}.0", TO) for n in range(NUMBERS + 50)]
    assert len({number % NUMBERS for number in numbers}) == NUMBERS
    assert max(numbers) < 2**16


def test_no_more_is_remembered_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_references, "REMEMBERED_MAX", 100)
    references = PartReferences()
    first = references.take("m.0", TO)
    for n in range(99):
        references.take(f"m-{n}.0", f"+791600000{n}")
    assert references.take("m.0", TO) == first + 1  # it is remembered still
    for n in range(200):
        references.take(f"m-{n}.0", f"+791600000{n}")
    assert references.take("m.0", TO) == first
    assert len(references._used) == 100


async def test_two_dispatchers_send_a_text_under_two_numbers() -> None:
    """The parts of a sending that broke off were joined with those of the next one."""
    smsc = Smsc()
    for series in range(SENDINGS):
        ref = ids.step_ref("0" * ids.ID_LENGTH, 0, series)
        async with session(smsc) as provider:
            await provider.deliver([submission(ref, "a" * 200)])
    numbers = [texts.read(part).reference for part in smsc.submitted]
    assert numbers[::2] == numbers[1::2]
    assert len(set(numbers[::2])) == SENDINGS
