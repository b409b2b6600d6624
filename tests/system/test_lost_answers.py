"""A send whose answer was lost, by real processes: never sent again blindly, found by look-up.

The simulator takes some requests and closes the connection, and loses others before it takes
anything; receipts are lost too, so that only a look-up can tell the two apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from stack import Stack, phone, stack, until

LOOK_UPS_S = 40.0
DELIVERED = {"ending": "delivered", "lost": True}


@pytest.fixture(scope="module")
def kaskad() -> Iterator[Stack]:
    with stack() as running:
        yield running


def test_only_what_the_provider_does_not_have_is_sent_again(kaskad: Stack) -> None:
    taken, never_taken = phone(), phone()
    fates: dict[str, Any] = {to: {"viber": DELIVERED} for to in (taken, never_taken)}
    kaskad.simulator.turn(by_phone=fates, answer_lost_share=1.0)
    ids = [kaskad.accept(taken, route="patient")]
    _when_unknown(kaskad, ids[0])
    kaskad.simulator.turn(answer_lost_share=0.0, lost_share=1.0)
    ids.append(kaskad.accept(never_taken, route="patient"))
    _when_unknown(kaskad, ids[1])
    kaskad.simulator.turn(lost_share=0.0)
    assert kaskad.simulator.stats().messages == 1

    found = kaskad.when(ids[0], "delivered", within_s=LOOK_UPS_S)
    assert found["steps"][0]["attempts"] == 1
    until(
        "what was never taken is sent again",
        lambda: kaskad.simulator.stats().messages == 2,
        LOOK_UPS_S,
    )
    sent = kaskad.when(ids[1], "sent", within_s=LOOK_UPS_S)
    assert sent["steps"][0]["attempts"] == 2
    messages = kaskad.simulator.bill().messages.values()
    assert sorted((one.to, one.requests) for one in messages) == [
        (to.removeprefix("+"), 1) for to in sorted((taken, never_taken))
    ]
    for id_ in ids:
        assert kaskad.message(id_)["steps"][1]["sent_at"] is None
    kaskad.books_agree()


def _when_unknown(kaskad: Stack, id_: str) -> None:
    until("the step is unknown", lambda: kaskad.message(id_)["steps"][0]["status"] == "unknown")
