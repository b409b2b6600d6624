"""The simulator's durable book: killed at any moment, it owes and bills what it did before."""

from __future__ import annotations

import resource
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.simulator import BookFault, Settings, bookfile, child
from providers.simulator.bookfile import HEADER, BookFile
from providers.simulator.exchange import Exchange, Push
from providers.simulator.knobs import Knobs, changed
from providers.simulator.lines import Line, Recalled, Repeated, Settled
from tests.simulator.test_exchange import HOUR, INFOBIP, NOW, sms, viber
from tests.simulator.test_http import CUT, PHONE, QUICK
from tests.simulator.test_http import viber as viber_over_http
from tests.worlds.reading import now
from tests.worlds.simulator_webhook import Webhook, call
from tests.worlds.simulator_world import any_knobs, ids, phones


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "book"


def written(path: Path, lines: list[Line]) -> list[Line]:
    """The lines as the next process reads them."""
    book = BookFile(path)
    book.write(lines)
    book.close()
    again = BookFile(path)
    found = list(again.lines())
    again.close()
    return found


def restored(knobs: Knobs, lines: list[Line]) -> Exchange:
    exchange = Exchange(knobs, noting=True)
    recalled = Recalled(exchange.book)
    for line in lines:
        recalled.take(line)
    exchange.restore(recalled)
    return exchange


def items(pushes: list[Push]) -> Counter[object]:
    return Counter(push.item for push in pushes)


refs = st.lists(st.tuples(ids, phones), min_size=1, max_size=12, unique_by=lambda pair: pair[0])


@given(any_knobs(), any_knobs(), refs, st.integers(0, 60 * HOUR), st.data())
def test_whenever_it_dies_its_bill_and_the_receipts_it_owes_are_those_of_one_that_lives(
    knobs: Knobs,
    later_knobs: Knobs,
    messages: list[tuple[str, str]],
    dies_after_ms: int,
    data: st.DataObject,
) -> None:
    channel = data.draw(st.sampled_from(INFOBIP.channels))
    body = viber if channel == "viber" else sms
    lives = Exchange(knobs, noting=True)
    pushed = lives.send(INFOBIP, INFOBIP.read_send(channel, body(*messages)), NOW).early
    pushed += lives.send(  # a repeat
        INFOBIP, INFOBIP.read_send(channel, body(messages[0])), NOW + 1
    ).early
    pushed += lives.tick(NOW + dies_after_ms)
    taken = data.draw(st.lists(st.sampled_from(pushed), unique_by=id)) if pushed else []
    lines = [*lives.take_notes(), Settled([push.item for push in taken])]

    with tempfile.TemporaryDirectory() as folder:
        successor = restored(knobs, written(Path(folder) / "book", lines))
    assert successor.book.bill(limit=None) == lives.book.bill(limit=None)
    assert successor.book.duplicates == lives.book.duplicates == 1
    pulled = [
        INFOBIP.pulled("logs", x.logs(channel, [], [], 99), price_when_free=True)
        for x in (successor, lives)
    ]
    assert pulled[0] == pulled[1]

    owed = items(pushed) - items(taken)
    successor_tells = items(successor.tick(NOW + 99 * HOUR))
    assert successor_tells == owed + items(lives.tick(NOW + 99 * HOUR))
    assert successor.book.bill(limit=None) == lives.book.bill(limit=None)
    # Fates were drawn when the messages were accepted: other knobs change none of them.
    charged = {"viber_charged_on": knobs.viber_charged_on, "sms_charged_on": knobs.sms_charged_on}
    other = restored(changed(later_knobs, charged), lines)
    other.tick(NOW + 99 * HOUR)
    assert other.book.bill(limit=None) == lives.book.bill(limit=None)


def test_ids_that_it_gives_itself_go_on_where_they_were(path: Path) -> None:
    knobs = Knobs()
    first = Exchange(knobs, noting=True)
    first.send(INFOBIP, INFOBIP.read_send("sms", sms(("", PHONE))), NOW)
    successor = restored(knobs, written(path, first.take_notes()))
    successor.send(INFOBIP, INFOBIP.read_send("sms", sms(("", PHONE))), NOW)
    assert list(successor.book.bill().messages) == ["nameless-1", "nameless-2"]
    assert [line.bulk_id for line in successor.logs("sms", [], [], 9)] == ["bulk-2", "bulk-1"]


def test_killed_under_load_it_knows_its_messages_and_sends_the_receipts_it_owes(path: Path) -> None:
    webhook = Webhook()
    settings = Settings(knobs=QUICK, book=str(path))
    try:
        with child.running(settings) as first:
            sent = viber_over_http("a", "b", webhook=webhook)
            assert call(first.port, "POST", "/viber/2/messages", sent).status == 200
            first.flush(everything=True)
            assert first.stats().next_ms is None
            told = len(webhook.results("/delivery")), len(webhook.results("/seen"))
            assert told == (2, 2)
            call(first.port, "POST", "/viber/2/messages", viber_over_http("c", webhook=webhook))
            bill = first.bill()
            stats = first.stats()
            assert stats.pending == 4
            assert 0 < (stats.next_ms or 0) < (stats.last_ms or 0)
            first.process.kill()
            first.process.wait()
        webhook.forget()
        with child.running(settings) as second:
            assert second.bill() == bill
            answer = call(second.port, "POST", "/viber/2/messages", viber_over_http("a", "c")).json
            assert {item["status"]["name"] for item in answer["messages"]} == {
                "REJECTED_DUPLICATE_MESSAGE_ID"
            }
            second.flush(everything=True)
            assert [one["messageId"] for one in webhook.results("/delivery")] == ["c"]
            assert [one["messageId"] for one in webhook.results("/seen")] == ["c"]
            assert second.bill().messages["c"].charge == "0.0100"
            second.reset()
        with child.running(settings) as third:
            assert third.bill().messages == {}
    finally:
        webhook.close()


def test_what_it_cannot_write_down_is_neither_answered_nor_remembered(path: Path) -> None:
    settings = Settings(knobs=QUICK, book=str(path))
    with child.running(settings) as first:
        assert call(first.port, "POST", "/viber/2/messages", viber_over_http("a")).status == 200
        size = path.stat().st_size
        limit = resource.prlimit(first.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(first.process.pid, resource.RLIMIT_FSIZE, (size + 20, limit[1]))
        with pytest.raises(CUT):
            call(first.port, "POST", "/viber/2/messages", viber_over_http("b"))
        assert first.process.wait(10) == 1
    assert path.stat().st_size == size + 20  # half a line
    with child.running(settings) as second:
        assert list(second.bill().messages) == ["a"]
        assert call(second.port, "POST", "/viber/2/messages", viber_over_http("b")).status == 200
    with child.running(settings) as third:
        assert list(third.bill().messages) == ["a", "b"]


def test_a_full_book_takes_no_further_message(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = BookFile(path)
    assert not now(book.full)
    monkeypatch.setattr(bookfile, "BYTES_MAX", book.size)
    assert now(book.full)
    book.close()


@pytest.mark.parametrize(
    ("octets", "sentence"),
    [
        (b"something else\n", "is no book of this simulator"),
        (b"x" * 3_000_000, "is no book of this simulator"),
        (HEADER + b"nonsense\n", "damaged in line 2"),
        (HEADER + b'["strange"]\n', "damaged in line 2"),
    ],
)
def test_a_file_that_is_no_book_is_refused_and_left_as_it_is(
    path: Path, octets: bytes, sentence: str
) -> None:
    path.write_bytes(octets)
    book = BookFile(path)
    with pytest.raises(BookFault, match=sentence):
        list(book.lines())
    book.close()
    assert path.read_bytes() == octets


def test_a_book_that_speaks_of_an_unknown_message_is_refused(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    written(path, [Repeated("nobody")])
    with pytest.raises(child.ChildFailed):
        child.start(Settings(book=str(path)))
    assert "damaged in line 2: it speaks of 'nobody'" in capfd.readouterr().err


def test_two_simulators_cannot_have_one_book(path: Path) -> None:
    first = BookFile(path)
    with pytest.raises(BookFault, match="Another simulator has the book"):
        BookFile(path)
    first.close()
    BookFile(path).close()


def test_a_place_that_cannot_be_opened_is_a_sentence() -> None:
    with pytest.raises(BookFault, match=r"cannot be opened \(No such file or directory\)"):
        BookFile(Path("/nowhere/book"))
