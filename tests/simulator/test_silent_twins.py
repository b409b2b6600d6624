"""Our ports to push services against their twins: the same audience, faults and book."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from providers.contract import (
    AccountFault,
    Device,
    FcmAddress,
    Outcome,
    Refused,
    SendFault,
    Submission,
    Submitted,
    Throttled,
    Unknown,
)
from providers.simulator import Knobs, child
from providers.simulator.browsers import HOST, subscribed
from providers.simulator.exchange import Exchange
from providers.simulator.lines import Recalled
from providers.simulator.twins import TWINS
from providers.webpush.encryption import encrypt
from tests.worlds.push_examples import ROWS, PushRow, service_account, to_devices
from tests.worlds.simulated import came_to
from tests.worlds.simulator_webhook import call

NOW = 1_790_000_000_000
every_service = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind)


@pytest.fixture
def simulator(running: child.Child) -> child.Child:
    running.reset()
    running.turn(push_share=1.0)
    return running


def device(row: PushRow, name: str) -> Device:
    return FcmAddress(name) if row.kind == "fcm" else subscribed(name)


def sent_to(row: PushRow, *names: str, **changes: Any) -> Submission:
    devices = tuple(device(row, name) for name in names)
    return to_devices(row, devices=devices, title="Hi", text="Здравствуйте", **changes)


def delivered(
    row: PushRow, simulator: child.Child, folder: Path, *batch: Submission, **keys: Any
) -> list[Outcome | SendFault]:
    """What each message came to."""
    hosts: dict[str, Any] = {"hosts": (HOST,)} if row.kind == "webpush" else {}
    make = partial(row.provider, simulator.base_url, folder, **hosts, **keys)
    return came_to(make, *([sent] for sent in batch))


@every_service
def test_a_message_reaches_its_device_and_the_book(
    row: PushRow, simulator: child.Child, tmp_path: Path
) -> None:
    sent = sent_to(row, "phone", "tablet")
    assert delivered(row, simulator, tmp_path, sent, sent) == [
        Submitted("m-1.0", delivered=True),
        Submitted("m-1.0", delivered=True),
    ]
    simulator.flush(everything=True)
    bill = simulator.bill()
    assert {line.to for line in bill.messages.values()} == {"phone", "tablet"}
    assert {line.requests for line in bill.messages.values()} == {2}, "the second is a repetition"
    assert all(line.delivered and line.channel == "push" for line in bill.messages.values())
    assert all(id_.startswith(sent.message + "/") for id_ in bill.messages)


@every_service
def test_a_device_that_died_is_gone(row: PushRow, simulator: child.Child, tmp_path: Path) -> None:
    simulator.turn(by_phone={"dead": {"push": {"ending": "rejected", "status": 9404}}})
    both, alone = sent_to(row, "dead", "alive"), sent_to(row, "dead", message="N" * 20)
    first, second, again = delivered(row, simulator, tmp_path, both, alone, alone)
    assert again == second
    gone = (device(row, "dead"),)
    assert first == Submitted("m-1.0", delivered=True, gone=gone)
    assert isinstance(second, Refused)
    assert (second.unreachable, second.gone) == (True, gone)
    simulator.turn(push_share=0.0, garbage_share=1.0)  # which is of what was taken
    (third,) = delivered(row, simulator, tmp_path, sent_to(row, "alive", message="L" * 20))
    assert isinstance(third, Refused)
    assert third.unreachable


@every_service
def test_faults_of_requests_keep_their_stage(
    row: PushRow, simulator: child.Child, tmp_path: Path
) -> None:
    for knobs, kind in (
        ({"throttle_share": 1.0, "retry_after_s": 3}, Throttled),
        ({"server_error_share": 1.0}, Unknown),
        ({"answer_lost_share": 1.0}, Unknown),
        ({"lost_share": 1.0}, Unknown),
        ({"outage": "unavailable"}, SendFault),
    ):
        simulator.reset()
        simulator.turn(push_share=1.0, **knobs)
        (met,) = delivered(row, simulator, tmp_path, sent_to(row, "phone"))
        assert isinstance(met, kind), knobs
        if isinstance(met, Throttled) and "retry_after_s" in knobs:
            assert met.retry_after_ms == 3_000


@every_service
def test_what_a_service_rejects_is_the_accounts(
    row: PushRow, simulator: child.Child, tmp_path: Path
) -> None:
    simulator.turn(reject_share=1.0)
    (met,) = delivered(row, simulator, tmp_path, sent_to(row, "phone"))
    assert isinstance(met, Refused)
    assert met.about == "account"


def test_fcm_wants_a_token_and_a_message_it_can_read(simulator: child.Child) -> None:
    path = "/v1/projects/shop-1/messages:send"
    for key, body, status, code in (
        ("Bearer wrong", b"{}", 401, b"UNAUTHENTICATED"),
        (f"Bearer {simulator.api_key}", b"{}", 400, b"INVALID_ARGUMENT"),
        (
            f"Bearer {simulator.api_key}",
            b'{"message":{"token":"t","data":{"google.x":"y"}}}',
            400,
            b"Invalid data payload key",
        ),
    ):
        answer = call(simulator.port, "POST", path, body, headers={"authorization": key})
        assert answer.status == status
        assert code in answer.body
    refused = call(simulator.port, "POST", "/token", b"grant_type=x")
    assert (refused.status, b"invalid_grant" in refused.body) == (400, True)


def test_a_push_service_wants_a_signature_and_its_own_browser(
    simulator: child.Child, tmp_path: Path
) -> None:
    row = next(row for row in ROWS if row.kind == "webpush")
    stranger = row.device(1)
    (met,) = delivered(row, simulator, tmp_path, to_devices(row, devices=(stranger,)))
    assert isinstance(met, Refused)
    answer = call(simulator.port, "POST", "/push/phone", b"x", headers={"TTL": "1"})
    assert answer.status == 401


def test_a_service_account_that_is_refused_is_the_accounts_fault(
    simulator: child.Child, tmp_path: Path
) -> None:
    row = next(row for row in ROWS if row.kind == "fcm")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = service_account(elsewhere, simulator.base_url + "/nothing")
    keys: dict[str, Any] = {"service_account_file": str(file)}
    (met,) = delivered(row, simulator, tmp_path, sent_to(row, "phone"), **keys)
    assert isinstance(met, AccountFault)


def test_a_durable_book_remembers_notifications_and_their_repetitions() -> None:
    exchange = Exchange(Knobs(push_share=1.0), noting=True)
    body = b'{"message":{"token":"phone","data":{"kaskad_id":"m-1"},"notification":{"body":"x"}}}'
    path = "/v1/projects/shop-1/messages:send"
    fcm, web = TWINS["fcm"], TWINS["webpush"]
    for _ in range(2):
        exchange.send(fcm, fcm.read_send("push", body, path), NOW)
    keys = subscribed("tablet").subscription.keys
    drawn = ec.derive_private_key(7, ec.SECP256R1()), bytes(16)
    encrypted = encrypt(b'{"id":"m-1"}', keys, *drawn)
    exchange.send(web, web.read_send("push", encrypted, "/push/tablet"), NOW)
    recalled = Recalled(Exchange(Knobs()).book)
    for line in exchange.take_notes():
        recalled.take(line)
    found = {entry.to: entry for entry in recalled.book.latest()}
    assert {to: entry.requests for to, entry in found.items()} == {"phone": 2, "tablet": 1}
    assert found["phone"].words is fcm.catalogue
    assert found["tablet"].words is web.catalogue
    assert exchange.tick(NOW + 10**9) == [], "nobody is told"
