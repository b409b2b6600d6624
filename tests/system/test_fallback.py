"""The cascade by real processes: Viber first, one SMS when Viber did not arrive, and never two.

CONTRACT.md sections 3, 4 and 6 (routes, caps) against the simulator of the provider.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.worlds.stack import Stack, phone, stack, until

DELIVERED = {"ending": "delivered"}
WAIT_S, GRACE_S = 6.0, 0.3  # of the unhurried route: time enough for a machine that stalls
TTL_S = 4

# What happens to Viber, and what its step says then.
ENDINGS: dict[str, tuple[dict[str, object], str]] = {
    "undelivered": ({"ending": "undelivered"}, "undelivered"),
    "not on Viber": ({"ending": "undelivered", "status": 9, "error": 7002}, "undelivered"),
    "expired by its receipt": ({"ending": "expired"}, "expired"),
    "rejected in the answer": ({"ending": "rejected"}, "rejected"),
    "rejected by its receipt": ({"ending": "undelivered", "status": 6, "error": 0}, "rejected"),
    "silent": ({"ending": "silent"}, "expired"),
}
PHONES = {name: phone() for name in (*ENDINGS, "delivered", "seen")}
SILENT = {name: phone() for name in ("cancelled", "opted out", "too late")}
UNREACHED = phone()
# Requests that are cut, after or before the provider took them; no report comes of the first.
CUT = {name: phone() for name in ("taken", "never taken")}

CONFIG: dict[str, Any] = {
    "routes": {
        "unhurried": {
            "steps": [
                {"provider": "infobip-viber", "wait": "6s", "grace": "300ms"},
                {"provider": "infobip-sms", "wait": "6s", "grace": "300ms"},
            ]
        }
    },
    "caps": [
        {"name": "one-a-day", "category": "marketing", "limit": 1, "window": "1d"},
        {"name": "no-more-sms", "category": "otp", "channel": "sms", "limit": 1, "window": "1d"},
    ],
}


def by_phone() -> dict[str, Any]:
    fates: dict[str, Any] = {
        PHONES[name]: {"viber": fate, "sms": DELIVERED} for name, (fate, _) in ENDINGS.items()
    }
    fates[PHONES["delivered"]] = {"viber": {**DELIVERED, "seen": False}}
    fates[PHONES["seen"]] = {"viber": {**DELIVERED, "seen": True}}
    fates |= {to: {"viber": {"ending": "silent"}, "sms": DELIVERED} for to in SILENT.values()}
    unreached = {"ending": "undelivered"}
    fates[UNREACHED] = {"viber": unreached, "sms": unreached}
    fates[CUT["taken"]] = {"viber": {**DELIVERED, "lost": True}}
    fates[CUT["never taken"]] = {"viber": DELIVERED}
    return fates


@pytest.fixture(scope="module")
def kaskad() -> Iterator[Stack]:
    knobs = {"expiry_ms": 200, "seen_ms_min": 10, "seen_ms_max": 50, "viber_share": 0.0}
    with stack(config=CONFIG, knobs=knobs) as running:
        running.simulator.turn(by_phone=by_phone())
        yield running


@pytest.fixture(scope="module", autouse=True)
def cut(kaskad: Stack) -> dict[str, str]:
    """Two messages whose answers are lost, by what became of their requests. The provider is asked
    about them in 5 and in 15 seconds, while other tests run."""
    simulator, ids = kaskad.simulator, {}
    for name, knob in (("taken", "answer_lost_share"), ("never taken", "lost_share")):
        simulator.turn(**{knob: 1.0})
        ids[name] = kaskad.accept(CUT[name], route="patient")
        until("the step is unknown", partial(_is_unknown, kaskad, ids[name]))
        simulator.turn(**{knob: 0.0})
    assert simulator.stats().messages == 1
    return ids


def _is_unknown(kaskad: Stack, id_: str) -> bool:
    return bool(kaskad.message(id_)["steps"][0]["status"] == "unknown")


def plain(to: str, **keys: object) -> dict[str, Any]:
    return {"to": to, "category": "transactional", "text": "Your order is on its way.", **keys}


def marketing(to: str, campaign: str, **keys: object) -> dict[str, Any]:
    return plain(to, category="marketing", campaign=campaign, **keys)


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def sent_to(kaskad: Stack, to: str) -> list[tuple[str, int]]:
    """(channel, requests) of everything the provider has got for a number."""
    found = kaskad.simulator.bill().messages.values()
    return [(one.channel, one.requests) for one in found if one.to == to.removeprefix("+")]


def test_every_way_to_miss_on_viber_is_followed_by_one_sms(kaskad: Stack) -> None:
    names = list(PHONES)
    ids = dict(zip(names, kaskad.accept_all([plain(PHONES[n]) for n in names]), strict=True))
    kaskad.when_all_final(ids.values())
    for name, (_, status) in ENDINGS.items():
        message = kaskad.message(ids[name])
        viber, sms = message["steps"]
        assert (name, message["status"]) == (name, "delivered")
        assert (name, viber["status"], sms["status"]) == (name, status, "delivered")
        assert sent_to(kaskad, PHONES[name]) == [("viber", 1), ("sms", 1)]
    no_viber = kaskad.message(ids["not on Viber"])["steps"][0]["error"]
    assert (no_viber["code"], no_viber["permanent"]) == ("7002", True)


def test_a_silent_viber_is_waited_for_and_a_refused_one_is_not(kaskad: Stack) -> None:
    silent, refused = phone(), phone()
    fates = {
        silent: {"viber": {"ending": "silent"}, "sms": DELIVERED},
        refused: {"viber": {"ending": "rejected"}, "sms": DELIVERED},
    }
    kaskad.simulator.turn(by_phone={**by_phone(), **fates})
    ids = kaskad.accept_all([plain(to, route="unhurried") for to in (silent, refused)])
    done = kaskad.when_all_final(ids)
    viber, sms = done[ids[0]]["steps"]
    # A step's time runs from the moment it may start, which is a little before it is sent.
    waited = (at(sms["sent_at"]) - at(done[ids[0]]["created_at"])).total_seconds()
    assert waited >= WAIT_S + GRACE_S
    waited = (at(sms["sent_at"]) - at(viber["sent_at"])).total_seconds()
    assert waited < WAIT_S + GRACE_S + 3
    quick = done[ids[1]]
    waited = (at(quick["steps"][1]["sent_at"]) - at(quick["created_at"])).total_seconds()
    assert waited < WAIT_S


def test_a_delivered_viber_sends_no_sms(kaskad: Stack) -> None:
    for name, status in (("delivered", "delivered"), ("seen", "seen")):
        id_ = kaskad.accept(PHONES[name], user=name)
        message = kaskad.when(id_, status)
        assert [step["status"] for step in message["steps"]] == [status, "skipped"]
        assert message["steps"][1]["sent_at"] is None
        assert {channel for channel, _ in sent_to(kaskad, PHONES[name])} == {"viber"}


def test_what_no_channel_delivered_is_undelivered_free_and_may_be_tried_again(
    kaskad: Stack,
) -> None:
    to = UNREACHED
    first = kaskad.accept(to, category="marketing", campaign="april")
    message = kaskad.when(first)
    assert message["status"] == "undelivered"
    assert [step["status"] for step in message["steps"]] == ["undelivered", "undelivered"]
    assert message["reason"]
    # The app is not billed, the campaign may try this person again, and the cap's slot is free.
    assert message["billing"]["billed"] == "0.0000"
    second = kaskad.post(marketing(to, "april"))
    assert (second.status, second.json["outcome"]) == (202, "accepted")
    kaskad.when(second.json["id"])
    third = kaskad.post(marketing(to, "may"))
    assert third.json["outcome"] == "accepted"
    kaskad.when(third.json["id"])
    total = kaskad.cost(campaign="april")["total"]
    # The first one told that Viber does not reach this person: the second did not try it.
    assert (total["accepted"], total["delivered"], total["undelivered"]) == (2, 0, 3)
    assert total["billed"] == "0.0000"
    assert total["cost_per_delivered"] is None


def test_a_delivered_campaign_stays_claimed_and_capped(kaskad: Stack) -> None:
    to = PHONES["delivered"]
    id_ = kaskad.accept(to, category="marketing", campaign="june")
    kaskad.when(id_, "delivered")
    again = kaskad.post(marketing(to, "june"))
    assert again.json == {"id": id_, "outcome": "duplicate", "status": "delivered"}
    assert kaskad.post(marketing(to, "july")).json["reason"] == "frequency_cap"


def test_a_cap_of_the_second_channel_is_checked_before_the_fallback(kaskad: Stack) -> None:
    to = PHONES["undelivered"]
    first = kaskad.accept(to, category="otp")
    assert kaskad.when(first)["status"] == "delivered"
    sms_before = len([one for one in sent_to(kaskad, to) if one[0] == "sms"])
    second = kaskad.accept(to, category="otp")
    message = kaskad.when(second)
    assert (message["status"], message["reason"]) == ("suppressed", "frequency_cap")
    assert [step["status"] for step in message["steps"]] == ["undelivered", "skipped"]
    assert len([one for one in sent_to(kaskad, to) if one[0] == "sms"]) == sms_before


def test_nothing_starts_after_a_cancel_an_opt_out_or_the_ttl(kaskad: Stack) -> None:
    route = "unhurried"
    cancelled = kaskad.accept(SILENT["cancelled"], route=route)
    opted_out = kaskad.accept(
        SILENT["opted out"], category="marketing", campaign="august", route=route
    )
    late = kaskad.accept(SILENT["too late"], ttl=TTL_S, route=route)
    for id_ in (cancelled, opted_out, late):
        kaskad.when(id_, "sent", "expired")
    assert kaskad.put(f"/v1/optouts/{SILENT['opted out']}", {"scope": "marketing"}).status == 200
    answer = kaskad.delete(f"/v1/messages/{cancelled}")
    assert (answer.status, answer.json["status"]) == (200, "cancelled")
    again = kaskad.delete(f"/v1/messages/{cancelled}")
    assert (again.status, again.json["final"]) == (200, False), "its first step is out"
    assert kaskad.when(opted_out, "suppressed")["reason"] == "opted_out"
    assert kaskad.when(late, "expired")["reason"] == "ttl"
    # By now the cancelled message's Viber step would have fallen back as well.
    until(
        "the cancelled message's time is over",
        lambda: kaskad.message(cancelled)["steps"][0]["status"] == "expired",
    )
    for to in SILENT.values():
        assert sent_to(kaskad, to) == [("viber", 1)]
    assert kaskad.message(cancelled)["status"] == "cancelled"
    assert kaskad.message(cancelled)["steps"][1]["status"] == "skipped"
    last = kaskad.delete(f"/v1/messages/{cancelled}")
    assert (last.status, last.headers["content-type"]) == (409, "application/problem+json")


def test_what_is_cancelled_before_it_is_sent_is_never_sent(kaskad: Stack) -> None:
    (dispatcher,) = [one for one in kaskad.processes if one.name == "dispatch" and one.running]
    dispatcher.stop()
    kept, dropped, out, late = phone(), phone(), phone(), phone()
    ids = [kaskad.accept(to) for to in (kept, dropped)]
    out_id = kaskad.accept(out)
    late_id = kaskad.accept(late, ttl=1)
    assert kaskad.delete(f"/v1/messages/{ids[1]}").json["status"] == "cancelled"
    assert kaskad.put(f"/v1/optouts/{out}", {"scope": "all"}).status == 200
    until("the ttl is over", lambda: _age_s(kaskad, late_id) > 1)
    kaskad.start_dispatcher().wait_ready()
    kaskad.when(ids[0])
    assert kaskad.when(out_id)["status"] == "suppressed"
    assert kaskad.when(late_id)["status"] == "expired"
    assert kaskad.status(ids[1]) == "cancelled"
    for to in (dropped, out, late):
        assert sent_to(kaskad, to) == []


def _age_s(kaskad: Stack, id_: str) -> float:
    created = at(kaskad.message(id_)["created_at"])
    return (datetime.datetime.now(datetime.UTC) - created).total_seconds()


def test_of_lost_answers_only_what_the_provider_does_not_have_is_sent_again(
    kaskad: Stack, cut: dict[str, str]
) -> None:
    found = kaskad.when(cut["taken"], "delivered")
    sent_again = kaskad.when(cut["never taken"], "delivered")
    assert found["steps"][0]["attempts"] == 1
    assert sent_again["steps"][0]["attempts"] == 2
    for message in (found, sent_again):
        assert sent_to(kaskad, message["to"]) == [("viber", 1)]
        assert message["steps"][1]["sent_at"] is None


def test_the_books_are_the_providers_bill(kaskad: Stack) -> None:
    """After everything above."""
    kaskad.ledger_equals_bill()
    kaskad.books_agree()
