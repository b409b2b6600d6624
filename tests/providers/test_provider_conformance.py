"""What every adapter must do, whatever its provider; a row of `provider_examples.ROWS` each."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.contract import (
    AccountFault,
    Outcome,
    PartlyRead,
    ReceiptStatus,
    Refused,
    SendFault,
    Submitted,
    Unknown,
)
from providers.registry import KINDS
from tests.worlds.provider_examples import ROWS, Row, reply, submission

every_provider = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind)
many = pytest.mark.parametrize(
    "row", [row for row in ROWS if row.takes_many], ids=lambda row: row.kind
)
many_reports = pytest.mark.parametrize(
    "row", [row for row in ROWS if row.several is not None], ids=lambda row: row.kind
)
REFS = [f"m-{i}.1" for i in range(5)]


def test_every_adapter_there_is_has_a_row() -> None:
    assert {row.kind for row in ROWS} == {
        name for name, kind in KINDS.items() if kind.adapter is not None
    }


@every_provider
def test_a_batch_becomes_one_request_in_its_order(row: Row) -> None:
    request = row.adapter().submit(row.batch)
    assert request.path.startswith("/")
    assert row.requests_in(request.body) == [sent.ref for sent in row.batch]


@every_provider
def test_the_same_batch_becomes_the_same_bytes(row: Row) -> None:
    assert row.adapter().submit(row.batch) == row.adapter().submit(row.batch)


@every_provider
def test_headers_can_be_written_to_the_wire(row: Row) -> None:
    for name, value in row.adapter().submit(row.batch).headers:
        assert (name + value).isascii()
        assert (name + value).isprintable()


@every_provider
@pytest.mark.parametrize("key", ["", "a b", "key\r\nX: y", "ключ"])
def test_an_api_key_that_cannot_be_a_header_is_refused_at_the_start(row: Row, key: str) -> None:
    with pytest.raises(ValueError, match="API key"):
        row.adapter(api_key=key)


@every_provider
def test_an_empty_or_too_large_batch_is_a_mistake_of_the_caller(row: Row) -> None:
    adapter = row.adapter()
    for size in (0, adapter.batch_max + 1):
        with pytest.raises(ValueError, match="batch"):
            adapter.submit([row.batch[0]] * size)


@every_provider
def test_accepted_messages_are_submitted_in_the_batchs_order(row: Row) -> None:
    answer = row.replied([(sent, "accepted") for sent in reversed(row.batch)])
    outcomes = row.adapter().outcomes(row.batch, answer)
    assert [outcome.ref for outcome in outcomes] == [sent.ref for sent in row.batch]
    for outcome in outcomes:
        assert isinstance(outcome, Submitted)
        assert outcome.provider_id or not row.own_ids, "else no receipt finds it"


@every_provider
def test_each_message_gets_its_own_verdict(row: Row) -> None:
    said = [verdict for verdict in row.verdicts if row.takes_many or verdict != "account"]
    sent = [submission(f"m-{i}.1") for i in range(len(said))]
    size = len(said) if row.takes_many else 1
    outcomes: list[Outcome] = []
    for first in range(0, len(said), size):
        batch = sent[first : first + size]
        answer = row.replied(list(zip(batch, said[first : first + size], strict=True)))
        outcomes += row.adapter().outcomes(batch, answer)
    for verdict, outcome in zip(said, outcomes, strict=True):
        if verdict in ("accepted", "duplicate"):
            assert isinstance(outcome, Submitted)
            assert outcome.again is (verdict == "duplicate")
        else:
            assert isinstance(outcome, Refused)
            assert outcome.fault.permanent is (verdict == "permanent")
            assert outcome.account is (verdict == "account")


@every_provider
def test_an_account_that_refuses_every_message_is_a_fault_of_the_whole(row: Row) -> None:
    if "account" not in row.verdicts:
        return
    answer = row.replied([(sent, "account") for sent in row.batch])
    with pytest.raises(AccountFault):
        row.adapter().outcomes(row.batch, answer)


@many
def test_an_account_that_refuses_all_it_mentions_leaves_the_rest_unknown(row: Row) -> None:
    if "account" not in row.verdicts:
        return
    answer = row.replied([(sent, "account") for sent in row.batch[:2]])
    outcomes = row.adapter().outcomes(row.batch, answer)
    assert [outcome.ref for outcome in outcomes] == REFS[:2]


@many
def test_a_message_the_answer_leaves_out_is_left_out(row: Row) -> None:
    answer = row.replied([(row.batch[3], "accepted"), (row.batch[1], "permanent")])
    outcomes = row.adapter().outcomes(row.batch, answer)
    assert [outcome.ref for outcome in outcomes] == [REFS[1], REFS[3]]


@many
def test_an_answer_about_strangers_is_unknown(row: Row) -> None:
    stranger = submission("stranger", to="+15550100")
    answer = row.replied([(stranger, "accepted")])
    with pytest.raises(Unknown):
        row.adapter().outcomes(row.batch, answer)


@every_provider
def test_every_refusal_of_the_whole_request_keeps_its_stage(row: Row) -> None:
    for answer, kind in row.faults:
        with pytest.raises(SendFault) as raised:
            row.adapter().outcomes(row.batch, answer)
        assert type(raised.value) is kind, answer
        assert raised.value.code
        assert raised.value.detail
        assert "79161234567" not in raised.value.detail


@every_provider
def test_a_wish_to_wait_is_passed_on(row: Row) -> None:
    with_wish = [answer for answer, _ in row.faults if "retry-after" in answer.headers]
    assert with_wish
    for answer in with_wish:
        with pytest.raises(SendFault) as raised:
            row.adapter().outcomes(row.batch, answer)
        assert raised.value.retry_after_ms == int(answer.headers["retry-after"]) * 1000


@every_provider
def test_every_status_is_read_as_itself(row: Row) -> None:
    for status in row.statuses:
        read = row.adapter().receipts(row.report([("m-1.1", status)]), "application/json")
        named = [receipt.provider_id if row.own_ids else receipt.ref for receipt in read.receipts]
        assert [receipt.status for receipt in read.receipts] == [status]
        assert named == ["m-1.1"]
        assert read.faults == []
        assert (read.receipts[0].at_ms is None) is row.timeless


@many_reports
def test_receipts_keep_order_and_repeats(row: Row) -> None:
    told: list[tuple[str, ReceiptStatus]] = [
        ("a", "sent"),
        ("b", "delivered"),
        ("b", "delivered"),
        ("a", "delivered"),
    ]
    read = row.adapter().receipts(row.report(told), "application/json")
    assert [(receipt.ref, receipt.status) for receipt in read.receipts] == told


@many_reports
def test_a_broken_item_never_fails_its_neighbours(row: Row) -> None:
    assert row.several is not None
    good = row.several.items(row.report([("a", "delivered"), ("b", "undelivered")]))
    for broken, place in itertools.product(row.several.broken_items, (0, 1, 2)):
        body = row.several.wrap([*good[:place], broken, *good[place:]])
        read = row.adapter().receipts(body, "application/json")
        assert [receipt.ref for receipt in read.receipts] == ["a", "b"], broken
        assert len(read.faults) == 1, broken
        assert f"Item {place}" in read.faults[0]


@many_reports
def test_an_empty_report_is_no_receipts(row: Row) -> None:
    assert row.several is not None
    read = row.adapter().receipts(row.several.wrap([]), "application/json")
    assert (read.receipts, read.faults) == ([], [])


@every_provider
@pytest.mark.parametrize(
    "body", [b"", b"<?xml version='1.0'?><a/>", b"null", b"[]", b"7", b"\xff", b"[" * 100_000]
)
def test_a_body_that_cannot_be_read_is_a_value_error(row: Row, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"[Bb]ody|report"):
        row.adapter().receipts(body, "application/json")


@every_provider
@given(data=st.data())
def test_receipts_raise_nothing_but_value_error_on_any_bytes(row: Row, data: st.DataObject) -> None:
    told: list[tuple[str, ReceiptStatus]] = [("a", "delivered"), ("b", "sent")]
    good = row.report(told if row.several else told[:1])
    cut = data.draw(st.integers(0, len(good)))
    body = data.draw(
        st.binary(max_size=40) | st.binary(max_size=6).map(lambda b: good[:cut] + b + good[cut:])
    )
    try:
        read = row.adapter().receipts(body, "application/json")
    except ValueError:
        return
    assert isinstance(read.receipts, list)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@many_reports
@given(data=st.data())
def test_a_field_of_any_value_never_loses_the_neighbour(row: Row, data: st.DataObject) -> None:
    assert row.several is not None
    odd, good = row.several.items(row.report([("a", "delivered"), ("b", "delivered")]))
    assert isinstance(odd, dict)
    odd[data.draw(st.sampled_from(sorted(odd)))] = data.draw(JSON)
    body = row.several.wrap([odd, good]).replace(b"NaN", b"0").replace(b"Infinity", b"1")
    read = row.adapter().receipts(body, "application/json")
    assert read.receipts[-1].ref == "b"


@every_provider
def test_a_look_up_asks_for_its_refs_and_reads_what_is_known(row: Row) -> None:
    adapter = row.adapter()
    if not adapter.can_look_up:
        return
    assert row.log is not None
    request = adapter.look_up(REFS)
    assert request.method == "GET"
    assert all(ref in request.path for ref in REFS)
    statuses = [status for status in row.statuses if status != "seen"]
    told = list(zip(REFS, statuses, strict=False))
    found = adapter.looked_up(reply(200, row.log(told)))
    assert [(receipt.ref, receipt.status) for receipt in found] == told
    assert adapter.looked_up(reply(200, row.log([]))) == []


@every_provider
def test_a_look_up_with_an_unreadable_entry_is_unknown(row: Row) -> None:
    """Since a ref that is not in the list would be sent again. What the others say is known."""
    adapter = row.adapter()
    if not adapter.can_look_up:
        return
    assert row.log is not None
    assert row.several is not None
    good = row.several.items(row.log([("a", "delivered")]))
    for broken in row.several.broken_items:
        with pytest.raises(PartlyRead) as raised:
            adapter.looked_up(reply(200, row.several.wrap([*good, broken])))
        assert [(each.ref, each.status) for each in raised.value.receipts] == [("a", "delivered")]


@every_provider
def test_a_look_up_that_fails_keeps_its_stage(row: Row) -> None:
    adapter = row.adapter()
    if not adapter.can_look_up:
        return
    for answer, kind in row.faults:
        with pytest.raises(SendFault) as raised:
            adapter.looked_up(answer)
        assert type(raised.value) is kind


@every_provider
def test_a_look_up_of_none_or_too_many_is_a_mistake_of_the_caller(row: Row) -> None:
    adapter = row.adapter()
    if not adapter.can_look_up:
        return
    for size in (0, adapter.look_up_max + 1):
        with pytest.raises(ValueError, match="look-up"):
            adapter.look_up(["a"] * size)
