"""Dispatchers that are killed, replaced and stopped in the middle of a campaign.

Each ends in the same three assertions: nothing accepted is lost, nothing is sent twice, and the
ledger is the provider's bill.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.worlds.stack import Stack, phone, stack, until

STOP_WITHIN_S = 20.0  # the test takes one, and a machine may stand still meanwhile
SLOW: dict[str, Any] = {
    "viber_share": 0.7,
    "answer_ms_min": 40,
    "answer_ms_max": 150,
    "expiry_ms": 400,
}
CONFIG: dict[str, Any] = {
    "providers": {name: {"rate": "200/s"} for name in ("infobip-viber", "infobip-sms")},
    "categories": {name: {"route": "patient"} for name in ("otp", "transactional", "marketing")},
}


def campaign(kaskad: Stack, size: int) -> list[str]:
    bodies = [
        {
            "to": phone(),
            "category": "marketing",
            "campaign": "flood",
            "text": "Hello",
            "user": f"user {number}",
        }
        for number in range(size)
    ]
    return kaskad.accept_all(bodies)


def when_taken(kaskad: Stack, count: int) -> None:
    until(f"the provider has {count} messages", lambda: kaskad.simulator.stats().messages >= count)


def nothing_lost_nothing_twice_books_true(kaskad: Stack, ids: list[str]) -> None:
    messages = kaskad.when_all_final(ids)
    assert len(messages) == len(ids) == kaskad.cost()["total"]["accepted"]
    kaskad.ledger_equals_bill()
    kaskad.nothing_was_sent_twice()
    kaskad.books_agree()


def test_killed_dispatchers_lose_nothing_and_send_nothing_twice() -> None:
    with stack(dispatchers=2, config=CONFIG, knobs=SLOW) as kaskad:
        first, second = (one for one in kaskad.processes if one.name == "dispatch")
        ids = campaign(kaskad, 500)
        when_taken(kaskad, 100)
        first.kill()
        when_taken(kaskad, 220)
        # The last one dies too, with requests under way, and a new one takes over from both.
        second.kill()
        left = Counter(kaskad.status(id_) for id_ in ids)
        assert left["queued"] > 0, "the campaign was over before the dispatcher died"
        kaskad.start_dispatcher().wait_ready()
        nothing_lost_nothing_twice_books_true(kaskad, ids)


def test_a_stopped_dispatcher_returns_what_it_did_not_send_within_its_deadline() -> None:
    knobs = {**SLOW, "answer_ms_min": 300, "answer_ms_max": 400}
    config = {**CONFIG, "lanes": {"stop_within": f"{STOP_WITHIN_S:.0f}s"}}
    with stack(dispatchers=1, config=config, knobs=knobs) as kaskad:
        (dispatcher,) = (one for one in kaskad.processes if one.name == "dispatch")
        ids = campaign(kaskad, 400)
        when_taken(kaskad, 60)
        took_s = dispatcher.stop()
        assert took_s < STOP_WITHIN_S
        steps = [kaskad.message(id_)["steps"][0] for id_ in ids]
        # Requests under way were waited for; all others are back, as if never taken.
        assert Counter(step["status"] for step in steps)["unknown"] == 0
        returned = [step for step in steps if step["status"] == "queued"]
        assert returned
        assert {step["attempts"] for step in returned} == {0}
        taken = kaskad.simulator.stats().messages
        sms = sum(kaskad.message(id_)["steps"][1]["sent_at"] is not None for id_ in ids)
        assert taken == len(ids) - len(returned) + sms
        kaskad.start_dispatcher().wait_ready()
        nothing_lost_nothing_twice_books_true(kaskad, ids)
        attempts = {kaskad.message(id_)["steps"][0]["attempts"] for id_ in ids}
        assert attempts == {1}
