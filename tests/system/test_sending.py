"""CONTRACT.md section 3 by real processes: what is sent, what is answered, and what is refused.

Two ingress processes and no dispatcher: what was accepted stays queued.
"""

from __future__ import annotations

import datetime
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.worlds.http_client import Answer
from tests.worlds.stack import KEYS, Stack, phone, stack

CONFIG: dict[str, Any] = {
    "server": {"body_bytes_max": 400_000},
    "caps": [
        {
            "name": "one-marketing-a-day",
            "category": "marketing",
            "channel": "any",
            "limit": 1,
            "window": "1d",
        },
        {"name": "two-codes-an-hour", "category": "otp", "limit": 2, "window": "1h"},
        {"name": "three-codes-a-day", "category": "otp", "limit": 3, "window": "1d"},
    ],
}
ID = re.compile(r"[0-9A-Z]{20}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MINUTE_S = 60.0


@pytest.fixture(scope="module")
def kaskad() -> Iterator[Stack]:
    with stack(ingress=2, dispatchers=0, config=CONFIG) as running:
        yield running


def marketing(to: str, campaign: str, **keys: object) -> dict[str, object]:
    return {"to": to, "category": "marketing", "campaign": campaign, "text": "Sale!", **keys}


def plain(to: str, **keys: object) -> dict[str, object]:
    return {"to": to, "category": "transactional", "text": "Your order is on its way.", **keys}


def problem(answer: Answer, status: int) -> dict[str, Any]:
    """The problem document (RFC 9457) of an answer with that status."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json
    assert {"type", "title", "status", "detail"} <= document.keys()
    assert document["status"] == status
    return document


def accepted(kaskad: Stack, campaign: str) -> dict[str, int]:
    total = kaskad.cost(campaign=campaign)["total"]
    return {key: total[key] for key in ("accepted", "duplicates", "suppressed")}


# --- outcomes ---


def test_an_accepted_message_is_a_202_with_its_id(kaskad: Stack) -> None:
    answer = kaskad.post(plain(phone()))
    assert answer.status == 202
    assert answer.json == {"id": answer.json["id"], "outcome": "accepted", "status": "queued"}
    assert ID.fullmatch(answer.json["id"])
    assert kaskad.status(answer.json["id"]) == "queued"


def test_100_at_once_from_8_connections_are_one_accepted_and_99_duplicates(kaskad: Stack) -> None:
    body = marketing(phone(), "rush", user="anna")
    start = threading.Barrier(8)

    def send(connection: int) -> list[Answer]:
        with kaskad.client(ingress=connection % 2) as client:
            client.get("/healthz")
            start.wait(MINUTE_S)
            count = 13 if connection < 4 else 12
            return [client.post("/v1/messages", body) for _ in range(count)]

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for answers in pool.map(send, range(8)) for answer in answers]
    assert Counter(answer.status for answer in answers) == {202: 1, 200: 99}
    (winner,) = (answer.json for answer in answers if answer.status == 202)
    losers = [answer.json for answer in answers if answer.status == 200]
    assert losers == [{"id": winner["id"], "outcome": "duplicate", "status": "queued"}] * 99
    assert accepted(kaskad, "rush") == {"accepted": 1, "duplicates": 99, "suppressed": 0}


def test_one_person_with_two_phones_or_with_and_without_an_id_is_one_person(kaskad: Stack) -> None:
    first, second = phone(), phone()
    winner = kaskad.post(plain(first, campaign="spring", user="boris")).json["id"]
    again = [
        kaskad.post(plain(second, campaign="spring", user="boris")),
        kaskad.post(plain(first, campaign="spring")),
        kaskad.post(plain(first, campaign="spring", user="somebody-else")),
        kaskad.post(plain(first, campaign="spring", category="otp"), app="bank"),
        kaskad.post(plain(first, campaign="spring", route="sms-only")),
    ]
    assert [answer.json["outcome"] for answer in again] == ["duplicate"] * 5
    assert {answer.json["id"] for answer in again} == {winner}
    # Whoever is seen with one of them is the same person.
    further = kaskad.post(plain(second, campaign="spring", user="vera"))
    assert (further.json["outcome"], further.json["id"]) == ("duplicate", winner)
    other = kaskad.post(plain(phone(), campaign="spring", user="nobody-seen-before"))
    assert other.json["outcome"] == "accepted"
    assert kaskad.post(plain(first, campaign="summer")).json["outcome"] == "accepted"


def test_a_full_cap_suppresses_and_says_when_to_come_back(kaskad: Stack) -> None:
    to = phone()
    assert kaskad.post(marketing(to, "monday", user="clara")).status == 202
    for body in (marketing(to, "tuesday"), marketing(phone(), "tuesday", user="clara")):
        answer = kaskad.post(body)
        assert answer.status == 200
        retry_at = answer.json["cap"]["retry_at"]
        assert answer.json == {
            "outcome": "suppressed",
            "reason": "frequency_cap",
            "cap": {
                "name": "one-marketing-a-day",
                "limit": 1,
                "window": "1d",
                "count": 1,
                "retry_at": retry_at,
            },
        }
        assert TIME.fullmatch(retry_at)
        now = datetime.datetime.now(datetime.UTC)
        left = datetime.datetime.fromisoformat(retry_at) - now
        assert datetime.timedelta(hours=23) < left <= datetime.timedelta(days=1)
    assert accepted(kaskad, "tuesday") == {"accepted": 0, "duplicates": 0, "suppressed": 2}
    # The same campaign again is the caller's own message, whatever the caps say.
    assert kaskad.post(marketing(to, "monday")).json["outcome"] == "duplicate"
    assert kaskad.post(plain(to)).status == 202


def test_of_several_caps_the_full_one_is_named(kaskad: Stack) -> None:
    to = phone()
    body = {"to": to, "category": "otp", "text": "Code 1234"}
    assert [kaskad.post(body).status for _ in range(2)] == [202, 202]
    answer = kaskad.post(body)
    assert answer.json["cap"]["name"] == "two-codes-an-hour"
    assert answer.json["cap"]["count"] == 2


def test_100_at_once_take_no_more_slots_than_a_cap_has(kaskad: Stack) -> None:
    to = phone()
    start = threading.Barrier(4)

    def send(connection: int) -> list[str]:
        with kaskad.client(ingress=connection % 2) as client:
            start.wait(MINUTE_S)
            bodies = [marketing(to, f"c{connection}-{number}") for number in range(25)]
            return [client.post("/v1/messages", body).json["outcome"] for body in bodies]

    with ThreadPoolExecutor(4) as pool:
        outcomes = [outcome for outcomes in pool.map(send, range(4)) for outcome in outcomes]
    assert Counter(outcomes) == {"accepted": 1, "suppressed": 99}


def test_an_opted_out_person_gets_nothing_in_that_scope(kaskad: Stack) -> None:
    to = phone()
    path = f"/v1/optouts/{to}"
    assert kaskad.get(path).status == 404
    assert kaskad.put(path, {"scope": "marketing"}).status == 200
    assert kaskad.get(path).json["scope"] == "marketing"
    answer = kaskad.post(marketing(to, "autumn"))
    assert (answer.status, answer.json) == (200, {"outcome": "suppressed", "reason": "opted_out"})
    assert kaskad.post(plain(to)).status == 202
    assert kaskad.put(path, {"scope": "all"}).status == 200
    assert kaskad.post(plain(to), app="bank").json["reason"] == "opted_out"
    assert kaskad.delete(path).status in (200, 204)
    assert kaskad.post(marketing(to, "autumn")).status == 202
    problem(kaskad.put(path, {"scope": "everything"}), 422)


def test_a_message_that_has_no_price_is_refused_at_acceptance(kaskad: Stack) -> None:
    faults = problem(kaskad.post(plain("+12025550123", route="sms-only")), 422)["errors"]
    assert [fault["pointer"] for fault in faults] == ["/to"]
    assert "price" in faults[0]["detail"]
    # Viber alone has a price everywhere: a step without one is left out of the default route.
    assert kaskad.post(plain("+12025550123", route="viber-only")).status == 202
    taken = kaskad.post(plain("+12025550123"))
    assert taken.status == 202
    steps = kaskad.message(taken.json["id"])["steps"]
    assert [step["channel"] for step in steps] == ["viber"]


# --- idempotency ---


def test_the_same_key_and_body_get_the_first_answer_again(kaskad: Stack) -> None:
    body = marketing(phone(), "winter")
    first = kaskad.post(body, Idempotency_Key="order-1")
    assert (first.status, "idempotent-replayed" in first.headers) == (202, False)
    for _ in range(2):
        again = kaskad.post(body, Idempotency_Key="order-1")
        assert (again.status, again.json) == (202, first.json)
        assert again.headers["idempotent-replayed"] == "true"
    assert accepted(kaskad, "winter") == {"accepted": 1, "duplicates": 0, "suppressed": 0}
    assert kaskad.post(body, Idempotency_Key="order-2").json["outcome"] == "duplicate"
    assert kaskad.post(plain(phone()), app="bank", Idempotency_Key="order-1").status == 202


def test_the_same_key_with_another_body_is_a_422(kaskad: Stack) -> None:
    to = phone()
    assert kaskad.post(plain(to), Idempotency_Key="order-3").status == 202
    conflict = kaskad.post(plain(to, text="Something else"), Idempotency_Key="order-3")
    assert "key" in problem(conflict, 422)["detail"]


def test_20_at_once_with_one_key_make_one_message(kaskad: Stack) -> None:
    body = plain(phone(), metadata={"campaign": "none"})
    start = threading.Barrier(4)

    def send(connection: int) -> list[str]:
        with kaskad.client(ingress=connection % 2) as client:
            start.wait(MINUTE_S)
            key = {"Idempotency-Key": "order-4"}
            return [client.post("/v1/messages", body, key).json["id"] for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        assert len({id_ for ids in pool.map(send, range(4)) for id_ in ids}) == 1


def test_items_of_an_array_have_keys_of_their_own(kaskad: Stack) -> None:
    bodies = [plain(phone(), idempotency_key=f"item-{n}") for n in range(2)]
    first = kaskad.post(bodies)
    again = kaskad.post(bodies)
    assert first.status == again.status == 200
    assert [item["id"] for item in first.json] == [item["id"] for item in again.json]
    changed = kaskad.post([bodies[0], {**bodies[1], "text": "Another"}]).json
    assert changed[0]["id"] == first.json[0]["id"]
    assert (changed[1]["outcome"], changed[1]["error"]["status"]) == ("rejected", 422)


# --- faults of the caller ---

INVALID: list[tuple[str, dict[str, object], str]] = [
    ("no phone", {"to": "12345"}, "/to"),
    ("a phone without a plus", {"to": "79161234567"}, "/to"),
    ("a phone that is a number", {"to": 79161234567}, "/to"),
    ("an unknown key", {"txt": "typo"}, "/txt"),
    ("an unknown key inside", {"viber": {"image": "x"}}, "/viber/image"),
    ("an unknown category", {"category": "spam"}, "/category"),
    ("marketing without a campaign", {"category": "marketing"}, "/campaign"),
    ("a long text", {"text": "x" * 1001}, "/text"),
    ("an empty text", {"text": ""}, "/text"),
    ("a long campaign", {"campaign": "x" * 129}, "/campaign"),
    ("a long user", {"user": "x" * 129}, "/user"),
    ("an unknown route", {"route": "pigeon"}, "/route"),
    ("a ttl of nothing", {"ttl": 0}, "/ttl"),
    ("a ttl that is text", {"ttl": "60"}, "/ttl"),
    ("a long key", {"idempotency_key": "x" * 256}, "/idempotency_key"),
    ("much metadata", {"metadata": {"a": "x" * 1100}}, "/metadata"),
    ("metadata with a number", {"metadata": {"a": 1}}, "/metadata/a"),
    (
        "a long caption",
        {"viber": {"button": {"caption": "x" * 31, "url": "https://a.example/"}}},
        "/viber/button/caption",
    ),
    (
        "a button to nowhere",
        {"viber": {"button": {"caption": "Buy", "url": "nowhere"}}},
        "/viber/button/url",
    ),
]


@pytest.mark.parametrize(
    ("keys", "pointer"), [each[1:] for each in INVALID], ids=[each[0] for each in INVALID]
)
def test_a_request_that_is_not_valid_is_a_422_that_points(
    kaskad: Stack, keys: dict[str, object], pointer: str
) -> None:
    document = problem(kaskad.post({**plain(phone()), **keys}), 422)
    assert [fault["pointer"] for fault in document["errors"]] == [pointer]
    assert all(fault["detail"] for fault in document["errors"])


def test_all_faults_of_a_request_are_told_at_once(kaskad: Stack) -> None:
    document = problem(kaskad.post({"to": "x", "ttl": -1, "colour": "red"}), 422)
    pointers = {fault["pointer"] for fault in document["errors"]}
    assert {"/to", "/ttl", "/colour", "/category"} <= pointers


def test_what_is_not_json_is_a_400(kaskad: Stack) -> None:
    as_json = {"Content-Type": "application/json"}
    for body in (b"{", b"", b"\xff", b'{"to": "\xff"}', b"[1, 2"):
        with kaskad.client() as client:
            problem(client.request("POST", "/v1/messages", body, as_json), 400)


def test_without_a_good_key_it_is_a_401(kaskad: Stack) -> None:
    with kaskad.client(app=None) as client:
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}):
            answer = client.request("POST", "/v1/messages", plain(phone()), header)
            problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            problem(client.get("/v1/messages/00000000000000000000", header), 401)
            problem(client.get("/v1/reports/cost", header), 401)


def test_a_key_made_on_the_command_line_works_and_has_only_its_scopes(kaskad: Stack) -> None:
    key = kaskad.command("key", "new", "--app", "shop", "--scope", "read").strip()
    header = {"Authorization": f"Bearer {key}"}
    id_ = kaskad.accept(phone())
    with kaskad.client(app=None, ingress=1) as client:
        assert client.get(f"/v1/messages/{id_}", header).status == 200
        problem(client.request("POST", "/v1/messages", plain(phone()), header), 403)
        problem(client.request("DELETE", f"/v1/messages/{id_}", headers=header), 403)
        problem(client.get("/v1/reports/cost", header), 403)


def test_another_apps_message_is_a_404(kaskad: Stack) -> None:
    id_ = kaskad.accept(phone())
    problem(kaskad.get(f"/v1/messages/{id_}", app="bank"), 404)
    problem(kaskad.delete(f"/v1/messages/{id_}", app="bank"), 404)
    problem(kaskad.get("/v1/messages/00000000000000000000"), 404)
    problem(kaskad.get("/v1/messages/what"), 404)
    problem(kaskad.get("/v2/messages"), 404)
    assert kaskad.status(id_) == "queued"


def test_too_much_is_a_413_and_another_type_a_415(kaskad: Stack) -> None:
    with kaskad.client() as client:
        problem(client.post("/v1/messages", [plain(phone())] * 1001), 413)
    with kaskad.client() as client:
        problem(client.post("/v1/messages", plain(phone(), text="x" * 400_000)), 413)
    with kaskad.client() as client:
        for type_ in ("text/plain", "application/xml", "application/x-www-form-urlencoded"):
            head = {"Content-Type": type_}
            problem(client.request("POST", "/v1/messages", b"{}", head), 415)


# --- arrays and streams ---


def test_an_array_is_answered_item_by_item(kaskad: Stack) -> None:
    to = phone()
    bodies = [marketing(to, "batch"), {"to": "nobody"}, marketing(to, "batch"), plain(phone())]
    answer = kaskad.post([*bodies, 7])
    assert answer.status == 200
    items = answer.json
    assert [item["index"] for item in items] == [0, 1, 2, 3, 4]
    outcomes = ["accepted", "rejected", "duplicate", "accepted", "rejected"]
    assert [item["outcome"] for item in items] == outcomes
    assert items[2]["id"] == items[0]["id"]
    assert items[1]["error"]["status"] == 422
    assert {fault["pointer"] for fault in items[1]["error"]["errors"]} >= {"/to", "/category"}


def test_an_array_of_1000_is_taken(kaskad: Stack) -> None:
    items = kaskad.post([plain(phone()) for _ in range(1000)]).json
    assert [item["index"] for item in items] == list(range(1000))
    assert {item["outcome"] for item in items} == {"accepted"}
    assert len({item["id"] for item in items}) == 1000


def test_bad_lines_of_a_stream_have_their_numbers_and_harm_no_others(kaskad: Stack) -> None:
    to = phone()
    lines = [
        json.dumps(marketing(to, "stream")).encode(),
        b"{not json",
        json.dumps({"to": "x", "category": "otp", "text": "x"}).encode(),
        b'{"to": "' + b"9" * 70_000 + b'"}',
        b'{"to": "\xff", "category": "otp", "text": "x"}',
        json.dumps(marketing(to, "stream")).encode(),
    ]
    with kaskad.client() as client:
        head = {"Content-Type": "application/x-ndjson"}
        answer = client.request("POST", "/v1/messages", b"\n".join(lines) + b"\n", head)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    items = answer.lines
    assert [item["line"] for item in items] == [1, 2, 3, 4, 5, 6]
    outcomes = ["accepted", *["rejected"] * 4, "duplicate"]
    assert [item["outcome"] for item in items] == outcomes
    assert [item["error"]["status"] for item in items[1:5]] == [400, 422, 413, 400]
    assert items[5]["id"] == items[0]["id"]


def test_a_stream_of_5000_lines_is_answered_in_order_while_it_is_written(kaskad: Stack) -> None:
    numbers = [phone() for _ in range(5000)]
    texts = [json.dumps(plain(to, metadata={"to": to})).encode() + b"\n" for to in numbers]
    answers: list[dict[str, Any]] = []
    with kaskad.stream() as stream:
        stream.write(b"".join(texts[:100]))
        assert stream.begin() == 200
        # Nothing more is written until all these are answered: the stream is not kept back.
        answers += [stream.line() for _ in range(100)]
        reader = threading.Thread(
            target=lambda: answers.extend(stream.line() for _ in range(4900)), daemon=True
        )
        reader.start()
        for start in range(100, 5000, 700):
            stream.write(b"".join(texts[start : start + 700]))
        stream.end()
        reader.join(MINUTE_S)
        assert stream.line() is None
    assert [answer["line"] for answer in answers] == list(range(1, 5001))
    assert {answer["outcome"] for answer in answers} == {"accepted"}
    assert len({answer["id"] for answer in answers}) == 5000
    for number in (0, 2500, 4999):
        assert kaskad.message(answers[number]["id"])["to"] == numbers[number]


def test_a_stream_without_a_good_key_is_a_401(kaskad: Stack) -> None:
    head = {"Content-Type": "application/x-ndjson", "Authorization": f"Bearer {KEYS['shop']}x"}
    with kaskad.client(app=None) as client:
        problem(client.request("POST", "/v1/messages", b"{}\n", head), 401)


def test_the_books_count_every_request_once(kaskad: Stack) -> None:
    """After everything above: the ledger and its totals agree."""
    kaskad.books_agree()
    by_app = kaskad.cost("app")
    assert sum(row["accepted"] for row in by_app["rows"]) == by_app["total"]["accepted"]
