"""A provider's limits and moods by real processes: its rate, 429, a refused account, no answer.

CONTRACT.md sections 4 (readiness) and 6 (rate), issue 2 E: limits hold over all dispatchers, and
nothing is burnt on a fault that is not the message's.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from gateway.store.shared_keys import limit
from tests.worlds import fake_provider
from tests.worlds.fake_provider import FakeProvider, Turn, push, report
from tests.worlds.stack import PROVIDER_KEY, Stack, phone, stack, until

RATE = 40
CAMPAIGN = 60
MEASURED_MAX = 20
VIBER, SMS = "infobip-viber", "infobip-sms"
DELIVERED = 5
PAUSE_S = 15.0
WAIT_S = 6  # long enough for the first look-up, 5 seconds after an answer was lost


@contextlib.contextmanager
def beside(provider: FakeProvider) -> Iterator[Stack]:
    """A stack whose provider is the fake one: no look-up, no receipts of its own."""
    steps = [
        {"provider": VIBER, "wait": f"{WAIT_S}s", "grace": "300ms"},
        {"provider": SMS, "wait": "60s"},
    ]
    config = {"routes": {"looked-up": {"steps": steps}}}
    with stack(dispatchers=2, config=config, provider_url=provider.base_url) as running:
        yield running


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with fake_provider.running(PROVIDER_KEY) as running:
        yield running


@pytest.fixture(scope="module")
def kaskad(provider: FakeProvider) -> Iterator[Stack]:
    with beside(provider) as running:
        yield running


def plain(to: str, **keys: object) -> dict[str, Any]:
    return {"to": to, "category": "transactional", "text": "Your order is on its way.", **keys}


def test_two_dispatchers_together_never_pass_the_rate() -> None:
    config = {"providers": {VIBER: {"rate": f"{RATE}/s", "batch": 10}}}
    knobs = {"viber_share": 1.0, "viber_delivered": 1.0, "viber_undelivered": 0.0}
    with stack(dispatchers=2, config=config, knobs=knobs) as running:
        peaks = [_peak(running)]
        # Seconds are measured where messages arrive: a machine that stalls the simulator for 50 ms
        # moves two of them into another second. A limit that is wrong is wrong each time. That it
        # is used as well, tests/ratelimit shows without a clock of the machine.
        while peaks[-1] > RATE and len(peaks) < MEASURED_MAX:
            running.simulator.reset()
            peaks.append(_peak(running))
        assert peaks[-1] <= RATE, peaks


def _peak(running: Stack) -> int:
    """The most messages that came within any one second of a campaign."""
    ids = running.accept_all([plain(phone(), route="viber-only") for _ in range(CAMPAIGN)])
    running.when_all_final(ids)
    stats = running.simulator.stats()
    assert stats.messages == CAMPAIGN
    running.nothing_was_sent_twice()
    return stats.messages_per_s_max["viber"]


def test_a_429_is_obeyed_by_all_and_burns_no_message(kaskad: Stack, provider: FakeProvider) -> None:
    provider.script("viber", Turn(status=429, headers={"Retry-After": "2"}))
    first, asked_us = phone(), time.time_ns() // 1_000
    ids = [kaskad.accept(first, route="viber-only")]
    until("the refusal", lambda: provider.requests and provider.requests[-1][1] == "viber")
    refused_at = provider.requests[-1][0]
    # Before that the other dispatcher may send.
    until("the limit is held off", lambda: _held_off_us(kaskad) >= asked_us + 2_000_000)
    others = [phone() for _ in range(4)]
    ids += [kaskad.accept(to, route="viber-only") for to in others]
    for to in (first, *others):
        provider.wait_for(to, "viber")
    later = [at for at, channel in provider.requests if channel == "viber" and at > refused_at]
    assert min(later) - refused_at >= 2.0
    for id_, to in zip(ids, (first, *others), strict=True):
        assert kaskad.when(id_, "sent")["steps"][0]["status"] == "sent"
        assert len(provider.of(to, "viber")) == 1


def test_a_refused_account_pauses_the_lane_is_told_and_burns_no_message(
    kaskad: Stack, provider: FakeProvider
) -> None:
    provider.key = "another key"
    to = [phone() for _ in range(4)]
    try:
        ids = [kaskad.accept(one, route="viber-only") for one in to[:3]]
        # A fallback that could carry it takes nothing over while its step may still wait.
        ids.append(kaskad.accept(to[3], route="patient"))

        def paused() -> list[dict[str, Any]]:
            return list(kaskad.get("/readyz").json["paused"])

        (pause,) = until("readyz names the paused provider", paused)
        assert kaskad.get("/readyz").status == 200
        assert pause["provider"] == VIBER
        assert datetime.datetime.fromisoformat(pause["since"]).year > 2000
        until("the metrics say so", lambda: _paused_in_metrics(kaskad))
        assert [kaskad.status(id_) for id_ in ids] == ["queued"] * 4
        until(
            "the logs say so",
            lambda: any('"provider paused"' in process.log for process in kaskad.processes),
        )
    finally:
        provider.key = PROVIDER_KEY
    for id_, one in zip(ids, to, strict=True):
        provider.wait_for(one, "viber")
        message = kaskad.when(id_, "sent", within_s=PAUSE_S)
        assert message["steps"][0]["status"] == "sent"
        assert len(provider.of(one, "viber")) == 1
    _until_nothing_is_paused(kaskad)


def _held_off_us(kaskad: Stack) -> int:
    """When the limit of Viber gives out tokens again: no answer over HTTP tells."""
    with redis.Redis(unix_socket_path=str(kaskad.redis.socket_path)) as client:
        return int(client.hget(limit(VIBER), "free_us") or 0)


def _paused_in_metrics(kaskad: Stack) -> bool:
    lines = kaskad.get("/metrics").body.decode().splitlines()
    return any("paused" in line and VIBER in line and line.endswith(" 1.0") for line in lines)


def test_no_credit_inside_a_good_answer_pauses_and_burns_no_message(
    kaskad: Stack, provider: FakeProvider
) -> None:
    to = phone()
    # Not the first request alone: a dispatcher that is not told yet would send the next one, and
    # end the pause before anybody saw it.
    with provider.all_met("sms", Turn(inside=12)):
        id_ = kaskad.accept(to, route="sms-only")
        until("the provider is paused", lambda: kaskad.get("/readyz").json["paused"])
    message = kaskad.when(id_, "sent", within_s=PAUSE_S)
    assert (message["steps"][0]["status"], message["steps"][0]["attempts"]) == ("sent", 1)
    # A refused reference would be a duplicate for the provider: each one is another.
    ids = [taken.id for taken in provider.of(to, "sms")]
    assert len(ids) == len(set(ids)) >= 2
    _until_nothing_is_paused(kaskad)


def _until_nothing_is_paused(kaskad: Stack) -> None:
    until("nothing is paused any more", lambda: not kaskad.get("/readyz").json["paused"])


def test_a_temporary_refusal_is_tried_again_and_a_permanent_one_is_not(
    kaskad: Stack, provider: FakeProvider
) -> None:
    flooded, network = phone(), phone()
    provider.script("viber", Turn(inside=20))
    tried_again = kaskad.accept(flooded)
    refused = provider.wait_for(flooded, "viber")
    taken = provider.wait_for(flooded, "viber", 2)
    # Under the refused reference the provider would take it for a repetition.
    assert refused.id != taken.id
    assert kaskad.when(tried_again, "sent")["steps"][0]["attempts"] == 2
    assert push(taken.delivery_url, [report(taken, DELIVERED)]) == 200
    assert kaskad.status(tried_again) == "delivered"

    provider.script("viber", Turn(inside=6))
    rejected = kaskad.accept(network)
    provider.wait_for(network, "sms")
    viber = kaskad.message(rejected)["steps"][0]
    assert (viber["status"], viber["error"]["code"]) == ("rejected", "6")
    assert len(provider.of(network, "viber")) == 1


def test_without_a_look_up_a_lost_answer_waits_for_the_timer_and_is_never_sent_again(
    kaskad: Stack, provider: FakeProvider
) -> None:
    provider.script("viber", Turn(cut=True))
    to = phone()
    id_ = kaskad.accept(to, route="looked-up")
    provider.wait_for(to, "viber")
    until("the step is unknown", lambda: kaskad.message(id_)["steps"][0]["status"] == "unknown")
    sms = provider.wait_for(to, "sms")
    # It was asked, and a 404 of the whole look-up does not say that it never got the message.
    assert any(path.startswith("/viber/2/logs") for path in provider.unknown_paths)
    assert push(sms.delivery_url, [report(sms, DELIVERED)]) == 200
    message = kaskad.when(id_, "delivered")
    assert message["steps"][1]["status"] == "delivered"
    started = datetime.datetime.fromisoformat(message["created_at"])
    fell_back = datetime.datetime.fromisoformat(message["steps"][1]["sent_at"])
    assert (fell_back - started).total_seconds() >= WAIT_S + 0.3
    assert [len(provider.of(to, channel)) for channel in ("viber", "sms")] == [1, 1]


def test_a_receipt_resolves_a_lost_answer(kaskad: Stack, provider: FakeProvider) -> None:
    provider.script("viber", Turn(cut=True))
    to = phone()
    id_ = kaskad.accept(to, route="patient")
    taken = provider.wait_for(to, "viber")
    until("the step is unknown", lambda: kaskad.message(id_)["steps"][0]["status"] == "unknown")
    assert push(taken.delivery_url, [report(taken, DELIVERED)]) == 200
    message = kaskad.message(id_)
    assert (message["status"], message["steps"][0]["status"]) == ("delivered", "delivered")
    assert message["billing"]["billed"] == "0.0075"
    assert provider.of(to, "sms") == []
