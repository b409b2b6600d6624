"""The simulator's core serves any wire format: a made-up twin of one line a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from providers.contract import Channel
from providers.simulator.book import Entry, Hooks
from providers.simulator.exchange import Exchange
from providers.simulator.infobip.catalogue import CATALOGUE
from providers.simulator.knobs import Knobs, changed
from providers.simulator.lines import Recalled
from providers.simulator.replies import Reply
from providers.simulator.twin import (
    Destination,
    Listing,
    Order,
    Pull,
    Sending,
    Taken,
    Twin,
    Unreadable,
    Violations,
)
from providers.simulator.twins import TWINS
from providers.simulator.vocabulary import Catalogue, Ending, Error, State, Status

NOW = 1_790_000_000_000
HOUR = 3_600_000
WORDS = ("taken", "refused", "there", "lost", "late")
STATUSES = {
    number: Status(State(number), number, name, CATALOGUE.enroute.json)
    for number, name in enumerate(WORDS)
}
NOTHING = Error(0, "nothing", False, CATALOGUE.no_error.json)


def usual(ending: Ending, channel: Channel) -> tuple[int, int]:
    ends = {"delivered": 2, "undelivered": 3, "expired": 4, "silent": 4, "rejected": 1}
    return ends[ending], 0


class Plain:
    """`SMS number` a line; the answer and each report are a line of `number word`."""

    channels: tuple[Channel, ...] = ("sms",)
    catalogue = Catalogue(
        provider="plain",
        statuses=STATUSES,
        errors={0: NOTHING},
        accepted=STATUSES[0],
        enroute=STATUSES[0],
        delivered=STATUSES[2],
        duplicate=STATUSES[1],
        no_route=STATUSES[1],
        unreachable=STATUSES[1],
        no_error=NOTHING,
        usual=usual,
        seen_channels=frozenset(),
    )
    media_type = "text/plain"
    pulls: Mapping[str, tuple[Channel, Listing]] = {}

    def is_authorised(self, headers: Mapping[bytes, bytes], api_key: str) -> bool:
        return True

    def sends_at(self, path: str) -> Channel | None:
        return "sms" if path == "/plain" else None

    def aside(self, path: str, body: bytes, api_key: str) -> Reply | None:
        return None

    def read_send(self, channel: Channel, body: bytes, path: str = "") -> Sending:
        numbers = [line.removeprefix("SMS ") for line in body.decode().splitlines()]
        if not all(number.isdigit() for number in numbers):
            raise Unreadable("Write SMS and a number.")
        to = [Destination(f"to-{number}", number) for number in numbers]
        order = Order(channel, "Shop", 1, "", HOUR, Hooks("http://h", ""), False, to)
        return Sending("", [order], counted=False)

    def read_pull(self, query: Mapping[str, list[str]]) -> Pull:
        raise Unreadable("There is nothing to pull.")

    def refusal(self, order: Order, to: str) -> Status | None:
        return None

    def answer(self, bulk_id: str, counted: bool, taken: Sequence[Taken]) -> Reply:
        lines = "".join(f"{each.to} {each.status.name}\n" for each in taken)
        return Reply(200, lines.encode())

    def pulled(self, listing: Listing, entries: Sequence[Entry], *, price_when_free: bool) -> bytes:
        return b""

    def error(self, shape: str, status: int, sentence: str, violations: Violations = ()) -> bytes:
        return sentence.encode()

    def final_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return f"{entry.to} {entry.status.name}".encode()

    def revived_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return f"{entry.to} {self.catalogue.delivered.name}".encode()

    def intermediate_report(self, entry: Entry, now_ms: int) -> bytes:
        return f"{entry.to} {self.catalogue.enroute.name}".encode()

    def seen_report(self, entry: Entry) -> bytes:
        raise NotImplementedError

    def reply(self, entry: Entry, text: str, now_ms: int) -> bytes:
        return f"{entry.to} {text}".encode()

    def complaint(self, entry: Entry, now_ms: int) -> bytes:
        return b""

    def post(self, reports: Sequence[bytes], key: str = "") -> bytes:
        return b"\n".join(reports)


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> Twin:
    plain = Plain()
    monkeypatch.setitem(TWINS, "plain", plain)
    return plain


def test_a_twin_reads_and_writes_and_the_core_does_the_rest(twin: Twin) -> None:
    fates = {f"7916{number}": {"sms": {"ending": end}} for number, end in enumerate(
        ("delivered", "undelivered", "expired", "rejected")
    )}  # fmt: skip
    exchange = Exchange(changed(Knobs(), {"by_phone": fates}), noting=True)
    body = "".join(f"SMS {number}\n" for number in fates).encode()
    sent = exchange.send(twin, twin.read_send("sms", body), NOW)
    assert sent.answer.body == b"79160 taken\n79161 taken\n79162 taken\n79163 refused\n"
    again = exchange.send(twin, twin.read_send("sms", b"SMS 79160\n"), NOW)
    assert again.answer.body == b"79160 refused\n"
    pushes = exchange.tick(NOW + 2 * HOUR)
    told = [b"79160 there", b"79161 lost", b"79162 late"]
    assert sorted(push.report for push in pushes) == told
    assert pushes[0].twin.post(told[:2]) == b"79160 there\n79161 lost"
    bill = exchange.book.bill()
    assert {line.status for line in bill.messages.values()} == {"there", "lost", "late", "refused"}
    assert bill.channels[0].charged == 3


def test_a_durable_book_remembers_whose_words_a_message_has(twin: Twin) -> None:
    exchange = Exchange(Knobs(), noting=True)
    exchange.send(twin, twin.read_send("sms", b"SMS 79160\n"), NOW)
    recalled = Recalled(Exchange(Knobs()).book)
    for line in exchange.take_notes():
        recalled.take(line)
    entry = recalled.book.get("to-79160")
    assert entry is not None
    assert entry.words is twin.catalogue


def test_what_a_twin_cannot_read_is_a_sentence(twin: Twin) -> None:
    with pytest.raises(Unreadable, match="Write SMS"):
        twin.read_send("sms", b"FAX 1\n")
