"""The simulator as a process of its own, over real HTTP: sends, faults, receipts, controls."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import http.client
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from providers.simulator import Knobs, Settings, child, serve
from tests.worlds.simulator_webhook import Answer, Webhook, call

QUICK = Knobs(
    answer_ms_min=0,
    answer_ms_max=0,
    receipt_ms_min=60_000,
    receipt_ms_max=60_000,
    flush_ms=1,
    viber_share=1.0,
    viber_delivered=1.0,
    viber_undelivered=0.0,
    seen_share=1.0,
    sms_delivered=1.0,
    sms_undelivered=0.0,
)
PHONE = "79160000001"
CUT = (http.client.RemoteDisconnected, ConnectionResetError)


@pytest.fixture(scope="module")
def process() -> Iterator[child.Child]:
    with child.running(Settings(knobs=QUICK)) as running:
        yield running


@pytest.fixture
def simulator(process: child.Child) -> child.Child:
    process.reset()
    return process


@pytest.fixture(scope="module")
def listener() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.close()


@pytest.fixture
def webhook(listener: Webhook) -> Webhook:
    listener.forget()
    return listener


def viber(*refs: str, webhook: Webhook | None = None, to: str = PHONE) -> dict[str, Any]:
    hooks: dict[str, Any] = {"callbackData": "echo"}
    if webhook is not None:
        hooks["delivery"] = {"url": webhook.url + "/delivery"}
        hooks["seen"] = {"url": webhook.url + "/seen"}
    return {
        "messages": [
            {
                "sender": "Shop",
                "destinations": [{"to": to, "messageId": ref}],
                "content": {"type": "TEXT", "text": "Hello"},
                "webhooks": hooks,
            }
            for ref in refs
        ]
    }


def sms(*refs: str, text: str = "Hello") -> dict[str, Any]:
    return {
        "messages": [
            {"destinations": [{"to": PHONE, "messageId": ref}], "content": {"text": text}}
            for ref in refs
        ],
        "options": {"includeSmsCountInResponse": True},
    }


def send_viber(simulator: child.Child, body: object, **options: Any) -> Answer:
    return call(simulator.port, "POST", "/viber/2/messages", body, **options)


def send_sms(simulator: child.Child, body: object, **options: Any) -> Answer:
    return call(simulator.port, "POST", "/sms/3/messages", body, **options)


def statuses(answer: Answer) -> list[str]:
    assert answer.status == 200
    return [item["status"]["name"] for item in answer.json["messages"]]


# --- sends and receipts --------------------------------------------------------------------------


def test_a_delivered_and_seen_message_is_reported_to_the_urls_of_its_request(
    simulator: child.Child, webhook: Webhook
) -> None:
    assert statuses(send_viber(simulator, viber("m", webhook=webhook))) == ["PENDING_ACCEPTED"]
    simulator.flush(everything=True)
    [delivered] = webhook.results("/delivery")
    [seen] = webhook.results("/seen")
    assert set(delivered) == {
        "bulkId",
        "price",
        "status",
        "error",
        "messageId",
        "to",
        "sender",
        "sentAt",
        "doneAt",
        "messageCount",
        "mccMnc",
        "callbackData",
    }
    assert delivered["status"] == {
        "groupId": 3,
        "groupName": "DELIVERED",
        "id": 5,
        "name": "DELIVERED_TO_HANDSET",
        "description": "Message delivered to handset",
    }
    assert delivered["error"]["name"] == "NO_ERROR"
    assert (delivered["to"], delivered["sender"], delivered["mccMnc"]) == (PHONE, "Shop", "25001")
    assert delivered["callbackData"] == "echo"
    assert delivered["sentAt"].endswith("+0000")
    assert set(seen) == {"messageId", "from", "to", "sentAt", "seenAt"}


def test_an_sms_says_how_many_parts_it_has(simulator: child.Child) -> None:
    answer = send_sms(simulator, sms("m", text="я" * 71))
    assert answer.json["messages"][0]["details"] == {"messageCount": 2}
    assert simulator.bill().messages["m"].charge == "0.0800"


def test_reports_come_up_to_100_in_a_post(simulator: child.Child, webhook: Webhook) -> None:
    simulator.turn(seen_share=0)
    send_viber(simulator, viber(*(f"m{n}" for n in range(250)), webhook=webhook))
    simulator.flush(everything=True)
    assert sorted(len(post.results) for post in webhook.posts) == [50, 100, 100]
    assert len({item["messageId"] for item in webhook.results()}) == 250


def test_a_repeated_id_is_status_23_and_charged_once(
    simulator: child.Child, webhook: Webhook
) -> None:
    send_viber(simulator, viber("m", webhook=webhook))
    again = send_viber(simulator, viber("m", webhook=webhook))
    assert again.json["messages"][0]["status"]["id"] == 23
    simulator.flush(everything=True)
    assert len(webhook.results()) == 1
    bill = simulator.bill()
    assert (bill.messages["m"].requests, bill.charge) == (2, {"EUR": "0.0100"})
    assert simulator.stats().duplicates == 1


def test_a_number_without_viber_is_reported_as_unknown_user(
    simulator: child.Child, webhook: Webhook
) -> None:
    simulator.turn(viber_share=0)
    assert statuses(send_viber(simulator, viber("m", webhook=webhook))) == ["PENDING_ACCEPTED"]
    simulator.flush(everything=True)
    [report] = webhook.results()
    assert (report["status"]["groupId"], report["error"]["id"]) == (2, 7002)
    assert report["error"]["permanent"] is True
    simulator.turn(non_viber="reject")
    assert statuses(send_viber(simulator, viber("n"))) == ["REJECTED_DESTINATION"]


def test_one_number_can_be_rejected_among_accepted_ones(simulator: child.Child) -> None:
    simulator.turn(by_phone={"+79160000002": {"viber": {"ending": "rejected", "status": 14}}})
    body = viber("a")
    body["messages"] += viber("b", to="79160000002")["messages"]
    assert statuses(send_viber(simulator, body)) == [
        "PENDING_ACCEPTED",
        "REJECTED_DESTINATION_BLOCKLISTED",
    ]


def test_an_early_report_is_taken_before_the_send_is_answered(
    simulator: child.Child, webhook: Webhook
) -> None:
    simulator.turn(early_share=1)
    send_viber(simulator, viber("m", webhook=webhook))
    assert [item["messageId"] for item in webhook.results()] == ["m"]


def test_repeats_are_pushed_again(simulator: child.Child, webhook: Webhook) -> None:
    simulator.turn(repeat_share=1, repeat_times=49, seen_share=0)
    send_viber(simulator, viber("m", webhook=webhook))
    simulator.flush(everything=True)
    assert [item["messageId"] for item in webhook.results()] == ["m"] * 50
    assert simulator.bill().charge == {"EUR": "0.0100"}


def test_receipts_come_by_themselves(simulator: child.Child, webhook: Webhook) -> None:
    simulator.turn(receipt_ms_min=1, receipt_ms_max=1, seen_ms_min=1, seen_ms_max=1)
    send_viber(simulator, viber("m", webhook=webhook))
    paths = {post.path for post in webhook.wait_for_posts(2)}
    assert paths == {"/delivery", "/seen"}


# --- faults of a request -------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/viber/2/messages", "/sms/3/messages"])
def test_a_wrong_key_is_401_in_either_error_shape(simulator: child.Child, path: str) -> None:
    answer = call(simulator.port, "POST", path, {}, key="wrong")
    assert answer.status == 401
    assert set(answer.json) == {"errorCode", "description", "action", "violations", "resources"}
    assert answer.json["errorCode"] == "E401"
    simulator.turn(error_shape="request")
    answer = call(simulator.port, "POST", path, {}, key="wrong")
    assert answer.json["requestError"]["serviceException"]["messageId"] == "UNAUTHORIZED"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"{", ""),
        ({"messages": []}, "messages"),
        ({"messages": [{"sender": "S"}]}, "messages[0]"),
        ({"messages": viber("m")["messages"], "bulk": 1}, ""),
    ],
)
def test_what_cannot_be_read_is_400_and_names_the_property(
    simulator: child.Child, body: object, where: str
) -> None:
    answer = send_viber(simulator, body)
    assert (answer.status, answer.json["errorCode"]) == (400, "E400")
    assert answer.json["violations"][0]["property"] == where
    assert simulator.stats().messages == 0


def test_too_many_messages_are_400(simulator: child.Child) -> None:
    simulator.turn(request_messages_max=2)
    assert send_viber(simulator, viber("a", "b")).status == 200
    assert send_viber(simulator, viber("c", "d", "e")).status == 400
    assert simulator.stats().messages == 2


@pytest.mark.parametrize(
    ("method", "path", "content_type", "status"),
    [
        ("POST", "/nowhere", "application/json", 404),
        ("GET", "/sms/3/messages", "application/json", 405),
        ("POST", "/sms/3/logs", "application/json", 405),
        ("POST", "/sms/3/messages", "text/plain", 415),
    ],
)
def test_other_requests_are_refused(
    simulator: child.Child, method: str, path: str, content_type: str, status: int
) -> None:
    answer = call(simulator.port, method, path, {}, content_type=content_type)
    assert (answer.status, answer.json["errorCode"]) == (status, f"E{status}")


def test_a_lost_request_is_not_accepted_and_a_retry_may_get_through(
    simulator: child.Child,
) -> None:
    simulator.turn(lost_share=0.5)
    tries = 0
    while "m" not in simulator.bill().messages:
        tries += 1
        assert tries < 20
        try:
            answer = send_viber(simulator, viber("m"))
        except CUT:
            assert simulator.bill().messages == {}
        else:
            assert statuses(answer) == ["PENDING_ACCEPTED"]
    assert simulator.stats().requests["POST /viber/2/messages"].get("lost", 0) == tries - 1


def test_a_lost_answer_leaves_an_accepted_message(simulator: child.Child) -> None:
    simulator.turn(answer_lost_share=1)
    with pytest.raises(CUT):
        send_viber(simulator, viber("m"))
    assert simulator.bill().messages["m"].requests == 1
    simulator.turn(answer_lost_share=0)
    assert statuses(send_viber(simulator, viber("m"))) == ["REJECTED_DUPLICATE_MESSAGE_ID"]


def test_a_throttled_request_is_429_with_retry_after(simulator: child.Child) -> None:
    simulator.turn(throttle_share=1, retry_after_s=7)
    answer = send_viber(simulator, viber("m"))
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert answer.json["errorCode"] == "E429"
    simulator.turn(retry_after_s=0)
    assert "retry-after" not in send_viber(simulator, viber("m")).headers
    assert simulator.stats().messages == 0


def test_the_providers_own_rate_holds_for_each_channel(simulator: child.Child) -> None:
    simulator.turn(rate_per_s=3)
    assert send_viber(simulator, viber("a", "b", "c", "d")).status == 429
    assert send_sms(simulator, sms("a", "b", "c")).status == 200
    stats = simulator.stats()
    came = {channel: count for channel, count in stats.messages_per_s_max.items() if count}
    assert came == {"viber": 4, "sms": 3}
    admitted = {channel: count for channel, count in stats.admitted_per_s_max.items() if count}
    assert admitted == {"sms": 3}


@pytest.mark.parametrize("accepts", [False, True])
def test_a_server_error_may_hide_an_acceptance(simulator: child.Child, accepts: bool) -> None:
    simulator.turn(server_error_share=1, server_error_accepts=accepts)
    assert send_viber(simulator, viber("m")).status in (500, 502, 503)
    assert ("m" in simulator.bill().messages) is accepts


def test_a_garbage_answer_is_no_answer_though_all_was_accepted(simulator: child.Child) -> None:
    simulator.turn(garbage_share=1)
    for number in range(8):
        answer = send_viber(simulator, viber(f"m{number}"))
        assert answer.status == 200
        try:
            assert "messages" not in answer.json
        except ValueError:
            continue
    assert len(simulator.bill().messages) == 8


def test_an_outage_refuses_or_says_so_until_the_knob_changes(simulator: child.Child) -> None:
    simulator.turn(outage="refuse")
    with pytest.raises(CUT):
        send_viber(simulator, viber("m"))
    simulator.turn(outage="unavailable")
    assert send_viber(simulator, viber("m")).status == 503
    assert call(simulator.port, "GET", "/sms/3/logs").status == 503
    simulator.turn(outage="none")
    assert send_viber(simulator, viber("m")).status == 200


def test_an_outage_with_a_period_ends_by_itself(simulator: child.Child) -> None:
    for outage_ms in (30, 300, 3_000):  # on a slow machine a request comes behind a short one
        simulator.turn(outage="hang", outage_ms=outage_ms)
        try:
            answered = send_viber(simulator, viber(f"m{outage_ms}"))
        except CUT:
            break
        assert answered.status == 200
    else:
        pytest.fail("No request met an outage.")
    assert send_viber(simulator, viber("m")).status == 200


def test_a_hanging_request_is_cut_when_the_outage_ends(simulator: child.Child) -> None:
    simulator.turn(outage="hang")
    failures: list[BaseException] = []

    def hang() -> None:
        try:
            send_viber(simulator, viber("m"))
        except CUT as cut:
            failures.append(cut)

    thread = threading.Thread(target=hang)
    thread.start()
    simulator.turn(outage="none")
    thread.join(10)
    assert not thread.is_alive()
    # The request may have come after the outage: then it was answered, and never both.
    assert bool(failures) is ("m" not in simulator.bill().messages)


# --- pushing -------------------------------------------------------------------------------------


def test_a_refused_post_is_repeated_until_it_is_taken(
    simulator: child.Child, webhook: Webhook
) -> None:
    simulator.turn(early_share=1, seen_share=0, push_retry_scale=0)
    webhook.refusals.extend([500, 503])
    send_viber(simulator, viber("m", webhook=webhook))
    posts = webhook.wait_for_posts(3)
    assert len({post.body for post in posts}) == 1
    simulator.flush()
    pushed = simulator.stats().pushed
    assert (pushed.posts, pushed.retries, pushed.posts_given_up) == (1, 2, 0)


def test_a_post_nobody_takes_is_given_up(simulator: child.Child, webhook: Webhook) -> None:
    simulator.turn(early_share=1, seen_share=0, push_retry_scale=0, push_retries=2)
    webhook.refusals.extend([500] * 3)
    send_viber(simulator, viber("m", webhook=webhook))
    webhook.wait_for_posts(3)
    simulator.flush()
    stats = simulator.stats()
    assert (stats.pushed.posts_given_up, stats.reports_waiting) == (1, 0)


def test_a_webhook_that_is_not_there_does_not_stop_the_others(
    simulator: child.Child, webhook: Webhook
) -> None:
    simulator.turn(push_retries=0, seen_share=0)
    nowhere = viber("lost")
    nowhere["messages"][0]["webhooks"]["delivery"] = {"url": "http://127.0.0.1:1/x"}
    odd = viber("odd")
    odd["messages"][0]["webhooks"]["delivery"] = {"url": "not a url"}
    for body in (nowhere, odd, viber("m", webhook=webhook)):
        assert send_viber(simulator, body).status == 200
    simulator.flush(everything=True)
    assert [item["messageId"] for item in webhook.results()] == ["m"]
    assert simulator.stats().pushed.reports_dropped == 2


def test_posts_carry_the_proof_the_knobs_name(simulator: child.Child, webhook: Webhook) -> None:
    simulator.turn(
        seen_share=0,
        push_basic="user:word",
        push_headers={"x-account": "42"},
        push_hmac_secret="secret",
        push_hmac_header="X-Proof",
    )
    send_viber(simulator, viber("m", webhook=webhook))
    simulator.flush(everything=True)
    [post] = webhook.posts
    basic = base64.b64encode(b"user:word").decode()
    assert post.headers["authorization"] == f"Basic {basic}"
    assert post.headers["x-account"] == "42"
    assert post.headers["x-proof"] == hmac.new(b"secret", post.body, hashlib.sha256).hexdigest()


# --- pull and control ----------------------------------------------------------------------------


def test_logs_and_reports_are_pulled_by_several_ids(simulator: child.Child) -> None:
    send_sms(simulator, sms("a", "b", "c"))
    for query in ("messageId=a,b", "messageId=a&messageId=b"):
        found = call(simulator.port, "GET", f"/sms/3/logs?{query}").json["results"]
        assert [line["messageId"] for line in found] == ["a", "b"]
        assert {line["status"]["name"] for line in found} == {"PENDING_ENROUTE"}
    assert call(simulator.port, "GET", "/sms/3/reports?messageId=a").json["results"] == []
    simulator.flush(everything=True)
    path = "/sms/3/reports?messageId=a,c&limit=5"
    first, second = (call(simulator.port, "GET", path).json["results"] for _ in range(2))
    assert ([line["messageId"] for line in first], second) == (["a", "c"], [])
    assert call(simulator.port, "GET", "/sms/3/logs?limit=5000").status == 400
    assert call(simulator.port, "GET", "/viber/2/logs?messageId=a").json["results"] == []
    assert call(simulator.port, "GET", "/sms/3/logs", key="wrong").status == 401


def test_a_bad_knob_is_422_with_its_key_and_nothing_changes(simulator: child.Child) -> None:
    before = simulator.knobs()
    with pytest.raises(child.ControlFault) as caught:
        simulator.turn(seen_share=0.1, viber_share=2)
    assert (caught.value.status, caught.value.key) == (422, "viber_share")
    assert simulator.knobs() == before
    answer = call(simulator.port, "GET", "/_sim/knobs?explain=1")
    assert {line["key"] for line in answer.json} == set(before)


def test_the_bill_is_paged_and_a_bad_page_is_422(simulator: child.Child) -> None:
    send_sms(simulator, sms("a", "b"))
    page = call(simulator.port, "GET", "/_sim/bill?offset=1").json
    assert list(page["messages"]) == ["b"]
    assert page["charge"] == {"EUR": "0.0800"}
    assert call(simulator.port, "GET", "/_sim/bill?offset=x").status == 422
    assert call(simulator.port, "GET", "/_sim/nothing").status == 404
    assert call(simulator.port, "PUT", "/_sim/knobs", b"{").status == 400


def test_what_people_click_is_asked_for_page_by_page(simulator: child.Child) -> None:
    simulator.turn(people=[{"name": "all", "share": 1, "on": {"viber": {"clicks": 1}}}])
    send_viber(simulator, viber("m", "n"))
    simulator.flush(everything=True)
    page = simulator.clicks()
    assert {(click.message_id, click.channel) for click in page.clicks} == {
        ("m", "viber"),
        ("n", "viber"),
    }
    assert simulator.clicks(page.next_offset).clicks == []
    assert call(simulator.port, "GET", "/_sim/clicks?offset=x").status == 422


def test_reset_forgets_messages_and_knobs(simulator: child.Child, webhook: Webhook) -> None:
    simulator.turn(seen_share=0.25)
    send_viber(simulator, viber("m", webhook=webhook))
    simulator.reset()
    assert simulator.flush(everything=True).messages == 0
    assert webhook.posts == []
    assert simulator.knobs()["seen_share"] == QUICK.seen_share
    assert statuses(send_viber(simulator, viber("m"))) == ["PENDING_ACCEPTED"]


# --- the process ---------------------------------------------------------------------------------


def test_a_child_ends_when_its_parent_is_gone() -> None:
    running = child.start(Settings(knobs=QUICK))
    assert running.process.stdin is not None
    running.process.stdin.close()
    assert running.process.wait(10) == 0
    running.stop()


def test_a_child_with_a_bad_knob_says_which() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "providers.simulator"],
        input=b'{"knobs":{"viber_share":2}}\n',
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"viber_share" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_serve_takes_a_free_port_and_stops_when_told() -> None:
    async def main() -> int:
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        serving = asyncio.create_task(
            serve(Settings(knobs=QUICK), port=0, ready=ready.set_result, stop=stop)
        )
        port = await ready
        answer = await asyncio.to_thread(call, port, "GET", "/sms/3/logs")
        assert answer.json == {"results": []}
        stop.set()
        await serving
        return port

    port = asyncio.run(main())
    with pytest.raises(ConnectionRefusedError):
        call(port, "GET", "/sms/3/logs")
