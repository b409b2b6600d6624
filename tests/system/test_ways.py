"""Several providers of one channel by real processes: shares, a provider that is not there, one
that an operator takes out, and the books.

CONTRACT.md sections 6 and 7. Both SMS providers are one simulator, so that its bill is that of
both; of the two for Viber one has an address at which nobody listens.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from providers.simulator import child
from tests.worlds import template
from tests.worlds.ports import free_port
from tests.worlds.stack import PRICES, Process, Stack, phone, simulator_settings, stack, until

EVERYBODY = {  # is reached
    "viber_share": 1.0,
    "viber_delivered": 1.0,
    "viber_undelivered": 0.0,
    "sms_delivered": 1.0,
    "sms_undelivered": 0.0,
}
SOLD = {"infobip-sms": "0.0445", "smsc": "0.0500"}  # to Russia
OTHERS = """smsc,7,,0.0371,0.0500,EUR,2026-01-01
viber-down,,,0.0060,0.0075,EUR,2026-01-01
"""


def provider(kind: str, url: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "base_url": url,
        "api_key_env": "PROVIDER_KEY",
        "sender": "Shop",
        "rate": "1000/s",
        "callback_token_env": "CALLBACK_TOKEN",
    }


def shares(first: int, second: int) -> dict[str, Any]:
    return {
        "providers": [
            {"name": "infobip-sms", "weight": first},
            {"name": "smsc", "weight": second},
        ]
    }


def config(prices: Path, url: str) -> dict[str, Any]:
    return {
        "providers": {
            "smsc": {**provider("infobip-sms", url), "charged_on": "sent"},
            "viber-down": provider("infobip-viber", f"http://127.0.0.1:{free_port()}"),
        },
        "channels": {"sms": shares(70, 30)},
        "routes": {
            "sms": {"steps": [{"channel": "sms", "wait": "60s"}]},
            "viber": {"steps": [{"channel": "viber", "wait": "60s"}]},
        },
        "prices": {"file": str(prices)},
    }


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[child.Child]:
    settings = simulator_settings(tmp_path_factory.mktemp("simulator"), EVERYBODY)
    with template.simulation(settings) as running:
        yield running


@pytest.fixture(scope="module")
def kaskad(simulation: child.Child, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    prices = tmp_path_factory.mktemp("prices") / "prices.csv"
    prices.write_text(PRICES + OTHERS)
    url = simulation.base_url
    with stack(dispatchers=2, config=config(prices, url), provider_url=url) as running:
        running.attach(simulation, running.redis)
        yield running


def send(kaskad: Stack, count: int, route: str, **keys: str) -> dict[str, dict[str, Any]]:
    body = {"category": "transactional", "text": "Your order is on its way.", "route": route}
    ids = kaskad.accept_all([{"to": phone(), **body, **keys} for _ in range(count)])
    return kaskad.when_all_final(ids)


def carried(messages: dict[str, dict[str, Any]]) -> Counter[str]:
    assert {message["status"] for message in messages.values()} == {"delivered"}
    return Counter(message["steps"][0]["provider"] for message in messages.values())


def test_each_has_its_share_and_the_app_pays_the_price_of_whom_it_went_to(kaskad: Stack) -> None:
    messages = send(kaskad, 300, "sms", campaign="shares")
    assert carried(messages) == {
        "infobip-sms": pytest.approx(210, abs=6),
        "smsc": pytest.approx(90, abs=6),
    }
    for message in messages.values():
        step = message["steps"][0]
        assert (step["billed"], step["cost"]) == (SOLD[step["provider"]], "0.0371")
    rows = {row["provider"]: row for row in kaskad.cost("provider", campaign="shares")["rows"]}
    for name, count in carried(messages).items():
        assert (rows[name]["sent"], rows[name]["delivered"]) == (count, count)
        assert Decimal(rows[name]["billed"]) == count * Decimal(SOLD[name])


def test_a_message_tells_whom_it_may_go_to(kaskad: Stack) -> None:
    body = {"to": phone(), "category": "transactional", "text": "Hi", "route": "sms"}
    with kaskad.client() as client:
        answer = client.request("POST", "/v1/messages?dry_run=true", body)
    (step,) = answer.json["explain"]["plan"]
    assert step["price"] == SOLD[step["provider"]]
    assert {step["provider"], step["detail"].removeprefix("else by ")} == set(SOLD)


def test_what_one_cannot_be_handed_the_other_sends(kaskad: Stack) -> None:
    messages = send(kaskad, 40, "viber")
    assert carried(messages) == {"infobip-viber": 40}
    tried = Counter(
        happening["provider"]
        for id_ in messages
        for happening in kaskad.get(f"/v1/messages/{id_}/timeline").json["items"]
        if happening["event"] == "tried"
    )
    assert tried["infobip-viber"] == 40
    assert tried["viber-down"] >= 1, "by those with which it was found"


def told(kaskad: Stack, event: str, name: str) -> None:
    """Waits until every dispatcher knows."""

    def said(process: Process) -> bool:
        lines = [line for line in process.log.splitlines() if f'"{event}"' in line]
        return any(f'"{name}"' in line for line in lines)

    dispatchers = [process for process in kaskad.processes if process.name == "dispatch"]
    until(f"{event}: {name}", lambda: all(map(said, dispatchers)))


def test_one_that_an_operator_pauses_is_left_out_until_it_is_resumed(kaskad: Stack) -> None:
    kaskad.command("provider", "pause", "smsc", "--reason", "Too dear.")
    told(kaskad, "provider paused", "smsc")
    assert carried(send(kaskad, 40, "sms")) == {"infobip-sms": 40}
    kaskad.command("provider", "resume", "smsc")
    told(kaskad, "provider resumed", "smsc")
    assert carried(send(kaskad, 40, "sms")).keys() == {"infobip-sms", "smsc"}


def test_changed_weights_hold_for_what_is_accepted_afterwards(kaskad: Stack) -> None:
    text = kaskad.config.read_text()
    changed = text.replace("weight = 70", "weight = 1").replace("weight = 30", "weight = 9")
    assert changed != text
    kaskad.config.write_text(changed)
    for process in kaskad.processes:
        process.signal(signal.SIGHUP)
    until(
        "every role has the new weights",
        lambda: all("configuration_taken_over" in process.log for process in kaskad.processes),
    )
    assert carried(send(kaskad, 100, "sms"))["smsc"] == pytest.approx(90, abs=4)


def test_the_books_are_the_providers_bill(kaskad: Stack) -> None:
    """After everything above."""
    kaskad.ledger_equals_bill()
    kaskad.nothing_was_sent_twice()
    kaskad.books_agree()
