"""A dispatcher that is killed while it tells an app of its messages, and the one that comes after.

Whatever was under way: no event is lost, what is told twice has one id, and the sequence of each
message says which of its events is the last.
"""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import closing
from typing import Any

from standardwebhooks import Webhook as Verifier

from gateway.core.webhooks import OF_MESSAGES
from tests.worlds.simulator_webhook import Post, Webhook
from tests.worlds.stack import Stack, phone, stack, until

TOLD_S = 60.0  # the leases of the one that died lapse first
CONFIG: dict[str, Any] = {
    "apps": [{"name": "shop", "key_env": "SHOP_KEY", "scopes": ["send", "read", "manage"]}],
    "webhooks": {"allow_hosts": ["127.0.0.1"]},
    "categories": {"marketing": {"route": "patient"}},
}
KNOBS: dict[str, Any] = {"viber_share": 0.7, "answer_ms_min": 5, "answer_ms_max": 50}


def subscribe(kaskad: Stack, receiver: Webhook) -> Verifier:
    wanted = {"url": f"{receiver.url}/hooks", "events": list(OF_MESSAGES)}
    answer = kaskad.put("/v1/webhooks/orders", wanted)
    assert answer.status == 200, answer.json
    return Verifier(answer.json["secret"])


def told(posts: list[Post], verifier: Verifier) -> dict[str, dict[int, tuple[str, str]]]:
    """Of each message its events by sequence: the call's id and the type; each was proved."""
    found: defaultdict[str, dict[int, tuple[str, str]]] = defaultdict(dict)
    for post in posts:
        verifier.verify(post.body, post.headers)
        body = json.loads(post.body)
        event = (post.headers["webhook-id"], body["type"])
        assert found[body["data"]["id"]].setdefault(body["data"]["sequence"], event) == event
    return found


def test_a_killed_dispatcher_loses_no_event() -> None:
    with (
        closing(Webhook()) as receiver,
        stack(dispatchers=1, config=CONFIG, knobs=KNOBS) as kaskad,
    ):
        verifier = subscribe(kaskad, receiver)
        (dispatcher,) = (one for one in kaskad.processes if one.name == "dispatch")
        body = {"category": "marketing", "campaign": "flood", "text": "Hello"}
        ids = kaskad.accept_all([{**body, "to": phone()} for _ in range(120)])
        receiver.wait_for_posts(40)
        dispatcher.kill()
        told_before = len(receiver.posts)
        kaskad.start_dispatcher().wait_ready()
        messages = kaskad.when_all_final(ids, TOLD_S)

        def whole() -> bool:
            events = told(list(receiver.posts), verifier)
            return all(is_whole(events[id_], m["status"]) for id_, m in messages.items())

        until("every message is told to its end, and nothing is missing", whole, TOLD_S)
        assert told_before < len(receiver.posts), "all was told before the dispatcher died"
        assert set(told(list(receiver.posts), verifier)) == set(ids)


def is_whole(events: dict[int, tuple[str, str]], status: str) -> bool:
    """Whether all from the first to the message's end are there, by their sequence."""
    if not events or sorted(events) != list(range(1, len(events) + 1)):
        return False
    return (events[1][1], events[len(events)][1]) == ("message.queued", f"message.{status}")
