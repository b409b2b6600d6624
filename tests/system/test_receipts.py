"""CONTRACT.md section 5 and 7 by real processes: receipts repeated, early, late, reordered, forged.

The provider is `fake_provider`, which reports only what a test pushes by hand.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.worlds import fake_provider
from tests.worlds.fake_provider import FakeProvider, Taken, Turn, push, report, seen
from tests.worlds.stack import PROVIDER_KEY, Stack, phone, stack, until

DELIVERED, OPERATOR, UNDELIVERED, EXPIRED, REJECTED = 5, 2, 9, 15, 6
OK, UNAUTHORIZED = 200, 401

CONFIG: dict[str, Any] = {
    "providers": {
        "infobip-sms": {
            "callback_basic_user": "kaskad",
            "callback_basic_password_env": "CALLBACK_PASSWORD",
            "callback_hmac_secret_env": "CALLBACK_SECRET",
            "callback_hmac_header": "X-Signature",
        },
        "infobip-viber": {"base_url": None},
    },
    "categories": {"transactional": {"route": "patient"}, "marketing": {"route": "patient"}},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with fake_provider.running(PROVIDER_KEY) as running:
        yield running


@pytest.fixture(scope="module")
def kaskad(provider: FakeProvider) -> Iterator[Stack]:
    CONFIG["providers"]["infobip-viber"]["base_url"] = provider.base_url
    with stack(ingress=2, config=CONFIG, provider_url=provider.base_url) as running:
        yield running


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> str:
    """A campaign of its own, so that a test reads its own figures."""
    return str(request.node.name)[:120]


def sent(
    kaskad: Stack, provider: FakeProvider, channel: str = "viber", **keys: object
) -> tuple[str, Taken]:
    """A message whose step the provider has taken and we know of: its id, and what was taken."""
    to = phone()
    id_ = kaskad.accept(to, "shop", **keys)
    taken = provider.wait_for(to, channel)
    kaskad.when(id_, "sent")
    return id_, taken


def figures(kaskad: Stack, campaign: str, *names: str) -> tuple[object, ...]:
    total = kaskad.cost(campaign=campaign)["total"]
    return tuple(total[name] for name in names)


def test_a_delivered_receipt_repeated_50_times_bills_once(
    kaskad: Stack, provider: FakeProvider, campaign: str
) -> None:
    id_, taken = sent(kaskad, provider, campaign=campaign)
    again = report(taken, DELIVERED, price="0.0060")
    with ThreadPoolExecutor(8) as pool:
        bodies = [[again]] * 30 + [[again] * 10] * 2
        answers = list(pool.map(lambda body: push(taken.delivery_url, body), bodies))
    assert answers == [OK] * 32
    message = kaskad.when(id_)
    assert message["status"] == "delivered"
    assert message["billing"] == {"billed": "0.0075", "cost": "0.0060", "currency": "EUR"}
    assert figures(kaskad, campaign, "sent", "delivered", "double_delivered") == (1, 1, 0)
    assert figures(kaskad, campaign, "cost", "billed") == ("0.0060", "0.0075")
    kaskad.books_agree()


def test_a_receipt_that_comes_before_the_answer_to_the_send_counts(
    kaskad: Stack, provider: FakeProvider, campaign: str
) -> None:
    statuses: list[int] = []

    def report_first(taken: list[Taken]) -> None:
        statuses.extend(push(one.delivery_url, [report(one, DELIVERED)]) for one in taken)

    provider.script("viber", Turn(before_answer=report_first))
    to = phone()
    message = kaskad.when(kaskad.accept(to, campaign=campaign))
    until("the receipt was answered", lambda: statuses)  # the message may be seen a moment before
    assert statuses == [OK]
    assert message["status"] == "delivered"
    assert figures(kaskad, campaign, "sent", "delivered", "billed") == (1, 1, "0.0075")
    assert [len(provider.of(to, channel)) for channel in ("viber", "sms")] == [1, 0]


def test_seen_before_delivered_is_seen_and_billed_once(
    kaskad: Stack, provider: FakeProvider, campaign: str
) -> None:
    id_, taken = sent(kaskad, provider, campaign=campaign)
    assert push(taken.seen_url, [seen(taken)]) == OK
    assert kaskad.status(id_) == "seen"
    assert push(taken.delivery_url, [report(taken, DELIVERED, price="0.0060")]) == OK
    assert push(taken.delivery_url, [report(taken, OPERATOR)]) == OK
    message = kaskad.message(id_)
    assert (message["status"], message["steps"][0]["status"]) == ("seen", "seen")
    assert message["billing"] == {"billed": "0.0075", "cost": "0.0060", "currency": "EUR"}
    assert figures(kaskad, campaign, "delivered", "double_delivered") == (1, 0)


@pytest.mark.parametrize("end", [EXPIRED, UNDELIVERED], ids=["expired", "undelivered"])
def test_a_final_failure_becomes_delivered_by_a_late_receipt_and_never_goes_back(
    kaskad: Stack, provider: FakeProvider, campaign: str, end: int
) -> None:
    keys = {"campaign": campaign, "route": "viber-only"}
    id_, taken = sent(kaskad, provider, **keys)
    assert push(taken.delivery_url, [report(taken, end)]) == OK
    assert kaskad.status(id_) in ("expired", "undelivered")
    assert figures(kaskad, campaign, "delivered", "undelivered", "billed") == (0, 1, "0.0000")
    assert push(taken.delivery_url, [report(taken, DELIVERED)]) == OK
    assert push(taken.delivery_url, [report(taken, end), report(taken, REJECTED)]) == OK
    message = kaskad.message(id_)
    assert (message["status"], message["steps"][0]["status"]) == ("delivered", "delivered")
    assert figures(kaskad, campaign, "delivered", "undelivered", "billed") == (1, 0, "0.0075")


def test_receipts_in_any_order_come_to_the_same(
    kaskad: Stack, provider: FakeProvider, campaign: str
) -> None:
    outcomes = set()
    for number, order in enumerate([(26, 2, 5), (5, 2, 26), (15, 5, 2), (5, 15, 26), (2, 15, 5)]):
        name = f"{campaign}-{number}"
        id_, taken = sent(kaskad, provider, campaign=name, route="viber-only")
        for status in order:
            assert push(taken.delivery_url, [report(taken, status, price="0.0060")]) == OK
        message = kaskad.message(id_)
        booked = figures(kaskad, name, "sent", "delivered", "undelivered", "cost", "billed")
        outcomes.add((message["status"], message["steps"][0]["status"], booked))
    assert outcomes == {("delivered", "delivered", (1, 1, 0, "0.0060", "0.0075"))}


def test_viber_delivered_after_the_sms_is_a_double_delivery_billed_once(
    kaskad: Stack, provider: FakeProvider, campaign: str
) -> None:
    id_, viber = sent(kaskad, provider, campaign=campaign)
    assert push(viber.delivery_url, [report(viber, UNDELIVERED, error=7003)]) == OK
    sms = provider.wait_for(viber.to, "sms")
    assert push(sms.delivery_url, [report(sms, DELIVERED, price="0.0371")]) == OK
    assert kaskad.status(id_) == "delivered"
    before = figures(kaskad, campaign, "delivered", "double_delivered", "cost", "billed")
    assert before == (1, 0, "0.0371", "0.0445")
    for _ in range(3):
        assert push(viber.delivery_url, [report(viber, DELIVERED, price="0.0060")]) == OK
    after = figures(kaskad, campaign, "delivered", "double_delivered", "cost", "billed")
    assert after == (1, 1, "0.0431", "0.0445")
    message = kaskad.message(id_)
    assert [step["status"] for step in message["steps"]] == ["delivered", "delivered"]
    assert message["billing"] == {"billed": "0.0445", "cost": "0.0431", "currency": "EUR"}
    by_channel = {row["channel"]: row for row in kaskad.cost("channel", campaign=campaign)["rows"]}
    assert by_channel["viber"]["undelivered"] == 0
    assert by_channel["viber"]["double_delivered"] == 1
    assert by_channel["sms"]["delivered"] == 1
    kaskad.books_agree()


def test_a_receipts_price_is_booked_in_place_of_the_lists(
    kaskad: Stack, provider: FakeProvider, campaign: str
) -> None:
    three_parts = "х" * 150
    id_, taken = sent(
        kaskad, provider, "sms", campaign=campaign, route="sms-only", text=three_parts
    )
    assert kaskad.message(id_)["steps"][0]["parts"] == 3
    # Charged when it was sent, by the list; the receipt then tells the price of a part.
    assert figures(kaskad, campaign, "cost", "billed") == ("0.1113", "0.0000")
    told = report(taken, DELIVERED, price="0.0333", parts=3)
    assert push(taken.delivery_url, [told, told]) == OK
    assert figures(kaskad, campaign, "cost", "billed", "parts") == ("0.0999", "0.1335", 3)
    assert kaskad.message(id_)["billing"]["cost"] == "0.0999"
    kaskad.books_agree()


def test_a_message_nobody_knows_is_taken_with_a_200(kaskad: Stack, provider: FakeProvider) -> None:
    _, taken = sent(kaskad, provider)
    stranger = report(taken, DELIVERED) | {"messageId": "00000000000000000000.0"}
    stranger["callbackData"] = None
    foreign = stranger | {"messageId": "something-else-altogether"}
    assert push(taken.delivery_url, [stranger, foreign, seen(taken) | {"messageId": "x"}]) == OK


def test_one_bad_item_does_not_fail_its_neighbours(kaskad: Stack, provider: FakeProvider) -> None:
    first, one = sent(kaskad, provider)
    second, other = sent(kaskad, provider)
    third, half = sent(kaskad, provider)
    bad: list[object] = [
        17,
        None,
        {"messageId": one.id},
        {"messageId": one.id, "status": "DELIVERED"},
        report(one, DELIVERED) | {"status": {"groupId": 99, "id": 99}},
        {"nothing": "known"},
    ]
    spoilt = report(half, DELIVERED) | {"doneAt": "yesterday", "price": {"pricePerMessage": "?"}}
    body = [report(one, DELIVERED), *bad, spoilt, report(other, DELIVERED)]
    assert push(one.delivery_url, body) == OK
    assert [kaskad.status(id_) for id_ in (first, second, third)] == ["delivered"] * 3


def test_a_body_that_cannot_be_read_is_refused_and_changes_nothing(
    kaskad: Stack, provider: FakeProvider
) -> None:
    id_, taken = sent(kaskad, provider)
    for body in (b"", b"{", b"[]", b"\xff\xfe", b'{"results": 7}'):
        assert push(taken.delivery_url, [], body=body) == 400
    assert kaskad.status(id_) == "sent"


def test_a_callback_without_the_token_is_a_401_and_changes_nothing(
    kaskad: Stack, provider: FakeProvider
) -> None:
    id_, taken = sent(kaskad, provider)
    address = taken.delivery_url.partition("?")[0]
    assert "token=" in taken.delivery_url
    for url in (address, f"{address}?token=", f"{address}?token=wrong", f"{address}?Token=x"):
        assert push(url, [report(taken, DELIVERED)]) == UNAUTHORIZED
    assert push(address.replace("viber", "pigeon"), [report(taken, DELIVERED)]) == 404
    assert kaskad.status(id_) == "sent"


def test_basic_and_hmac_prove_a_callback_as_well(kaskad: Stack, provider: FakeProvider) -> None:
    id_, taken = sent(kaskad, provider, "sms", route="sms-only")
    address = taken.delivery_url.partition("?")[0]
    body = b'{"results":[]}'
    basic = base64.b64encode(b"kaskad:callback-password").decode()
    wrong = base64.b64encode(b"kaskad:another").decode()
    signature = hmac.new(b"callback-secret", body, hashlib.sha256).hexdigest()
    proofs = [
        ({"Authorization": f"Basic {basic}"}, OK),
        ({"Authorization": f"Basic {wrong}"}, UNAUTHORIZED),
        ({"X-Signature": signature}, OK),
        ({"X-Signature": signature[::-1]}, UNAUTHORIZED),
        ({}, UNAUTHORIZED),
    ]
    for headers, status in proofs:
        assert push(address, [], body=body, headers=headers) == status
    # A signature is of one body only.
    forged = {"X-Signature": signature}
    assert push(address, [report(taken, DELIVERED)], headers=forged) == UNAUTHORIZED
    assert kaskad.status(id_) == "sent"


def test_viber_delivered_while_the_sms_waits_in_its_lane_cancels_the_sms(
    kaskad: Stack, provider: FakeProvider
) -> None:
    provider.script("sms", Turn(status=429, headers={"Retry-After": "3"}))
    first, viber = sent(kaskad, provider)
    assert push(viber.delivery_url, [report(viber, UNDELIVERED)]) == OK
    until("the SMS was refused for now", lambda: provider.requests[-1][1] == "sms")
    assert push(viber.delivery_url, [report(viber, DELIVERED)]) == OK
    until(
        "the SMS step is skipped", lambda: kaskad.message(first)["steps"][1]["status"] == "skipped"
    )
    assert kaskad.status(first) == "delivered"
    # The lane goes on, and sends what came later but not this one.
    later, _ = sent(kaskad, provider, "sms", route="sms-only")
    assert kaskad.status(later) == "sent"
    assert provider.of(viber.to, "sms") == []


def test_nothing_was_sent_twice_and_the_books_agree(kaskad: Stack, provider: FakeProvider) -> None:
    """After everything above."""
    ids = [taken.id for taken in provider.taken]
    assert len(ids) == len(set(ids))
    kaskad.books_agree()
