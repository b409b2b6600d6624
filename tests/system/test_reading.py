"""CONTRACT.md section 4 by real processes: messages, events, and what a machine's watchers ask."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.worlds.stack import KEYS, Stack, phone, stack, until

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
AMOUNT = re.compile(r"\d+\.\d{4,6}")
MESSAGE_KEYS = [
    "id",
    "app",
    "user",
    "to",
    "campaign",
    "category",
    "importance",
    "route",
    "status",
    "final",
    "reaction",
    "held",
    "reason",
    "created_at",
    "updated_at",
    "metadata",
    "steps",
    "billing",
]
STEP_KEYS = [
    "channel",
    "provider",
    "status",
    "until",
    "provider_id",
    "attempts",
    "sent_at",
    "delivered_at",
    "seen_at",
    "clicked_at",
    "done_at",
    "parts",
    "billed",
    "cost",
    "error",
]
EVENT_KEYS = {"id", "campaign", "status", "channel", "reason", "at", "final", "reaction"}
EVENTS_S = 10.0

KNOBS: dict[str, Any] = {
    "viber_share": 1.0,
    "viber_delivered": 1.0,
    "viber_undelivered": 0.0,
    "sms_delivered": 1.0,
    "sms_undelivered": 0.0,
}


@pytest.fixture(scope="module")
def kaskad() -> Iterator[Stack]:
    with stack(ingress=2, knobs=KNOBS) as running:
        yield running


# --- one message ---


def test_a_message_is_shown_key_by_key(kaskad: Stack) -> None:
    to = phone()
    kaskad.simulator.turn(by_phone={to: {"viber": {"ending": "undelivered", "error": 7002}}})
    id_ = kaskad.accept(
        to,
        user="anna",
        campaign="keys",
        category="marketing",
        metadata={"order": "17", "город": "Пермь"},
        text="Привет, " + "я" * 80,
        viber={
            "image_url": "https://a.example/a.jpg",
            "button": {"caption": "Buy", "url": "https://a.example/"},
        },
        sms={"sender": "Shop2"},
    )
    message = kaskad.when(id_)
    assert set(message) == set(MESSAGE_KEYS)
    viber, sms = message.pop("steps")
    times = [message.pop(key) for key in ("created_at", "updated_at")]
    assert message == {
        "id": id_,
        "app": "shop",
        "user": "anna",
        "to": to,
        "campaign": "keys",
        "category": "marketing",
        "importance": "normal",
        "route": "viber-then-sms",
        "status": "delivered",
        "final": True,
        "reaction": None,
        "held": None,
        "reason": None,
        "metadata": {"order": "17", "город": "Пермь"},
        "billing": {"billed": "0.0890", "cost": "0.0742", "currency": "EUR"},
    }
    assert list(viber) == list(sms) == STEP_KEYS
    times += [step.pop(key) for step in (viber, sms) for key in ("sent_at", "done_at")]
    assert all(TIME.fullmatch(time) for time in times)
    assert times[0] <= times[2] <= times[3] <= times[4] <= times[5]
    assert viber == {
        "channel": "viber",
        "provider": "infobip-viber",
        "status": "undelivered",
        "until": "delivered",
        "delivered_at": None,
        "seen_at": None,
        "clicked_at": None,
        "billed": None,
        "cost": None,
        "provider_id": viber["provider_id"],
        "attempts": 1,
        "parts": viber["parts"],
        "error": {"code": "7002", "name": viber["error"]["name"], "permanent": True},
    }
    assert sms == {
        "channel": "sms",
        "provider": "infobip-sms",
        "status": "delivered",
        "until": "delivered",
        "delivered_at": times[5],
        "seen_at": None,
        "clicked_at": None,
        "billed": "0.0890",
        "cost": "0.0742",
        "provider_id": sms["provider_id"],
        "attempts": 1,
        "parts": 2,
        "error": None,
    }


def test_a_message_without_the_optional_keys_has_nulls(kaskad: Stack) -> None:
    message = kaskad.when(kaskad.accept(phone(), route="viber-only"))
    assert set(message) == set(MESSAGE_KEYS)
    for key in ("user", "campaign", "metadata", "reason"):
        assert message[key] is None
    assert AMOUNT.fullmatch(message["billing"]["billed"])


def test_a_queued_message_has_no_billing(kaskad: Stack) -> None:
    kaskad.simulator.turn(outage="refuse")
    try:
        message = kaskad.message(kaskad.accept(phone()))
    finally:
        kaskad.simulator.turn(outage="none")
    assert (message["status"], message["billing"]) == ("queued", None)
    assert [step["sent_at"] for step in message["steps"]] == [None, None]
    kaskad.when(message["id"], "delivered")


# --- events ---


class Event(NamedTuple):
    id: str
    kind: str
    data: dict[str, Any]


class Events:
    """An event stream, read line by line."""

    def __init__(self, port: int, key: str, after: str | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=EVENTS_S)
        headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = after
        self._connection.request("GET", "/v1/events", headers=headers)
        self.answer = self._connection.getresponse()

    def next(self) -> Event:
        """The next event; comments and pings are passed over."""
        fields: dict[str, str] = {}
        while True:
            line = self.answer.readline().decode().rstrip("\r\n")
            if not line and "data" in fields:
                return Event(fields["id"], fields["event"], json.loads(fields["data"]))
            name, colon, value = line.partition(":")
            if colon and name:
                fields[name] = value.removeprefix(" ")

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def follow(events: Events, id_: str, last: str) -> list[Event]:
    """The events of a message up to a status, whatever else comes between."""
    found: list[Event] = []
    while not found or found[-1].data["status"] != last:
        event = events.next()
        if event.data["id"] == id_:
            found.append(event)
    return found


def test_events_tell_an_apps_status_changes_and_go_on_where_they_were_left(kaskad: Stack) -> None:
    to = phone()
    kaskad.simulator.turn(by_phone={to: {"viber": {"ending": "delivered", "seen": True}}})
    events = Events(kaskad.ports[1], KEYS["shop"])
    try:
        assert events.answer.status == 200
        kind = events.answer.getheader("content-type", "")
        assert kind.partition(";")[0] == "text/event-stream"
        foreign = kaskad.accept(phone(), app="bank", campaign="foreign")
        id_ = kaskad.accept(to, campaign="events")
        story = follow(events, id_, "seen")
    finally:
        events.close()
    statuses = [event.data["status"] for event in story]
    assert statuses == ["queued", "sent", "delivered", "seen"]
    assert {event.kind for event in story} == {"status"}
    assert all(set(event.data) == EVENT_KEYS for event in story)
    assert {event.data["campaign"] for event in story} == {"events"}
    assert story[-1].data["channel"] == "viber"
    assert all(TIME.fullmatch(event.data["at"]) for event in story)
    assert len({event.id for event in story}) == len(story)

    later = kaskad.when(kaskad.accept(phone(), campaign="after"))["id"]
    again = Events(kaskad.ports[0], KEYS["shop"], after=story[1].id)
    try:
        missed = [again.next()]
        while missed[-1].data["id"] != later or missed[-1].data["status"] != "delivered":
            missed.append(again.next())
    finally:
        again.close()
    # What was read before does not come again, nothing after it is left out, no other app's comes.
    assert [e.id for e in missed if e.data["id"] == id_] == [event.id for event in story[2:]]
    statuses = [event.data["status"] for event in missed if event.data["id"] == later]
    assert statuses == ["queued", "sent", "delivered"]
    assert foreign not in {event.data["id"] for event in missed}
    assert kaskad.when(foreign, app="bank")["status"] == "delivered"


def test_events_need_the_scope(kaskad: Stack) -> None:
    with kaskad.client(app=None) as client:
        assert client.get("/v1/events").status == 401


# --- what watchers ask ---


def test_health_readiness_and_metrics_need_no_key(kaskad: Stack) -> None:
    with kaskad.client(app=None) as client:
        assert client.get("/healthz").status == 200
        ready = client.get("/readyz")
        assert ready.status == 200
        assert ready.json["paused"] == []

    def shown(ingress: int) -> tuple[set[str], set[str]]:
        """The series that a server shows, and whose they are."""
        with kaskad.client(app=None, ingress=ingress) as client:
            metrics = client.get("/metrics")
        assert metrics.status == 200
        assert metrics.headers["content-type"].startswith("text/plain")
        lines = metrics.body.decode().splitlines()
        # Seconds have 17 digits, so that some show such a number by chance: names and labels.
        said = [line.rpartition(" ")[0] for line in lines]
        assert not any(re.search(r"7916\d{7}", each) for each in said), "a phone number"
        names = {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}
        roles = {match[1] for line in lines if (match := re.search(r'process="(\w+)-', line))}
        return names, roles

    def leaders() -> bool:
        """Whether one server, whichever began first, shows what none has for itself alone."""
        found = [shown(ingress) for ingress in range(len(kaskad.ports))]
        lanes = [("kaskad_lane_messages" in names, "dispatch" in roles) for names, roles in found]
        assert all("ingress" in roles for _, roles in found)
        assert any("kaskad_ingress_messages_total" in names for names, _ in found)
        return sorted(lanes) == [*[(False, False)] * (len(lanes) - 1), (True, True)]

    until("one server shows the lanes and the dispatchers", leaders)


def test_the_documents_say_what_there_is(kaskad: Stack) -> None:
    with kaskad.client(app=None) as client:
        document = client.get("/openapi.json")
        docs = client.get("/docs")
    assert (document.status, docs.status) == (200, 200)
    assert document.json["openapi"].startswith("3.1")
    assert {
        "/v1/messages",
        "/v1/messages/{id}",
        "/v1/optouts/{address}",
        "/v1/events",
        "/v1/reports/cost",
        "/v1/callbacks/{provider}",
        "/healthz",
        "/readyz",
        "/metrics",
    } <= set(document.json["paths"])
    assert docs.headers["content-type"].startswith("text/html")


def test_no_phone_number_and_no_text_stands_in_the_logs(kaskad: Stack) -> None:
    to = phone()
    secret = "A secret that nobody may read"
    kaskad.when(kaskad.accept(to, text=secret))
    for process in kaskad.processes:
        assert to.removeprefix("+") not in process.log
        assert secret not in process.log
        assert KEYS["shop"] not in process.log
