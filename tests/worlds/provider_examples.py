"""What the conformance suite needs to know of each adapter: a row of example bodies a provider.

Adding a provider is adding one row to ROWS. A row says how that provider would answer; the suite
says what Kaskad must make of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl

from providers.contract import (
    AccountFault,
    BadRequest,
    ReceiptStatus,
    SendFault,
    Submission,
    Throttled,
    Unknown,
)
from providers.http.adapter import Adapter, HttpConfig, Reply
from providers.registry import KINDS

Verdict = Literal["accepted", "permanent", "temporary", "account", "duplicate"]
CALLBACK_URL = "https://kaskad.example/v1/callbacks/p?token=t0k"


@dataclass(frozen=True)
class Several:
    """A callback, or a look-up's answer, that lists what it says: its items, one of items, and
    items that nobody can read."""

    items: Callable[[bytes], list[object]]
    wrap: Callable[[list[object]], bytes]
    broken_items: Sequence[object]


@dataclass(frozen=True)
class Row:
    """One provider's examples.

    `answer` writes a good answer with a verdict a submission; `report` a callback with a status a
    ref; `faults` are answers that refuse the whole request. `log` writes a look-up's answer, if one
    can be asked for; `several` is None where a callback carries one report.
    """

    kind: str
    answer: Callable[[Sequence[tuple[Submission, Verdict]]], bytes | Reply]
    report: Callable[[Sequence[tuple[str, ReceiptStatus]]], bytes]
    faults: Sequence[tuple[Reply, type[SendFault]]]
    statuses: Sequence[ReceiptStatus]
    requests_in: Callable[[bytes], list[str]] = field(repr=False)
    verdicts: Sequence[Verdict] = ("accepted", "permanent", "temporary", "account", "duplicate")
    log: Callable[[Sequence[tuple[str, ReceiptStatus]]], bytes] | None = None
    several: Several | None = None
    own_ids: bool = False  # it takes no reference of ours
    timeless: bool = False  # its reports say no time

    def replied(self, verdicts: Sequence[tuple[Submission, Verdict]]) -> Reply:
        """The answer with its status, which is 200 where it is good for each message."""
        answer = self.answer(verdicts)
        return answer if isinstance(answer, Reply) else reply(200, answer)

    @property
    def batch(self) -> list[Submission]:
        """Messages for one request."""
        return [submission(f"m-{i}.1") for i in range(min(self.adapter().batch_max, 5))]

    @property
    def takes_many(self) -> bool:
        return self.adapter().batch_max > 1

    def adapter(self, **changes: object) -> Adapter:
        make = KINDS[self.kind].adapter
        assert make is not None
        return make(config(self.kind, **changes))


def config(kind: str, **changes: object) -> HttpConfig:
    values: dict[str, object] = {
        "name": "p",
        "kind": kind,
        "base_url": "https://example.api.infobip.com",
        "api_key": "k3y",
        "sender": "Shop",
        "rate_per_s": 100,
        "batch": 100,
        "timeout_ms": 10_000,
        "callback_url": CALLBACK_URL,
    }
    return HttpConfig(**(values | changes))  # type: ignore[arg-type]


def submission(ref: str, **changes: object) -> Submission:
    number = sum(ref.encode()) % 10_000
    values: dict[str, object] = {
        "ref": ref,
        "to": f"+7900000{number:04d}",
        "sender": "Shop",
        "category": "marketing",
        "text": f"Здравствуйте, {ref}!",
        "validity_ms": 900_000,
        "subject": "Скидки",
        "from_": "news@shop.example",
    }
    return Submission(**(values | changes))  # type: ignore[arg-type]


PENDING = {"groupId": 1, "groupName": "PENDING", "id": 26, "name": "PENDING_ACCEPTED"}
INFOBIP_VERDICTS: Mapping[Verdict, dict[str, object]] = {
    "accepted": PENDING,
    "permanent": {
        "groupId": 5,
        "groupName": "REJECTED",
        "id": 14,
        "name": "REJECTED_DESTINATION_BLOCKLISTED",
    },
    "temporary": {"groupId": 5, "groupName": "REJECTED", "id": 21, "name": "REJECTED_SYSTEM_ERROR"},
    "account": {
        "groupId": 5,
        "groupName": "REJECTED",
        "id": 12,
        "name": "REJECTED_NOT_ENOUGH_CREDITS",
    },
    "duplicate": {
        "groupId": 5,
        "groupName": "REJECTED",
        "id": 23,
        "name": "REJECTED_DUPLICATE_MESSAGE_ID",
    },
}
INFOBIP_STATUSES: Mapping[ReceiptStatus, dict[str, object]] = {
    "sent": PENDING,
    "delivered": {
        "groupId": 3,
        "groupName": "DELIVERED",
        "id": 5,
        "name": "DELIVERED_TO_HANDSET",
        "description": "Message delivered to handset",
    },
    "undelivered": {
        "groupId": 2,
        "groupName": "UNDELIVERABLE",
        "id": 9,
        "name": "UNDELIVERABLE_NOT_DELIVERED",
    },
    "expired": {"groupId": 4, "groupName": "EXPIRED", "id": 15, "name": "EXPIRED_EXPIRED"},
    "rejected": {"groupId": 5, "groupName": "REJECTED", "id": 6, "name": "REJECTED_NETWORK"},
}
NO_ERROR = {
    "groupId": 0,
    "groupName": "OK",
    "id": 0,
    "name": "NO_ERROR",
    "description": "No Error",
    "permanent": False,
}


def infobip_answer(verdicts: Sequence[tuple[Submission, Verdict]]) -> bytes:
    messages = [
        {
            "messageId": sent.ref,
            "status": INFOBIP_VERDICTS[verdict],
            "destination": sent.to.removeprefix("+"),
            "details": {"messageCount": 2},
        }
        for sent, verdict in verdicts
    ]
    return json.dumps({"bulkId": "2034072219640523072", "messages": messages}).encode()


def infobip_report_item(ref: str, status: ReceiptStatus) -> dict[str, object]:
    if status == "seen":
        return {
            "messageId": ref,
            "from": "79000000001",
            "to": "Shop",
            "sentAt": "2026-11-01T10:00:00.000+0000",
            "seenAt": "2026-11-01T10:05:00.250+0000",
        }
    return {
        "bulkId": "2034072219640523072",
        "price": {"pricePerMessage": 0.01, "currency": "EUR"},
        "status": INFOBIP_STATUSES[status],
        "error": NO_ERROR,
        "messageId": ref,
        "to": "79000000001",
        "sender": "Shop",
        "sentAt": "2026-11-01T10:00:00.000+0000",
        "doneAt": "2026-11-01T10:00:01.500+0000",
        "messageCount": 2,
        "mccMnc": "25001",
        "callbackData": ref,
        "platform": {"entityId": "e", "applicationId": "a"},
    }


def infobip_log_item(ref: str, status: ReceiptStatus) -> dict[str, object]:
    item = infobip_report_item(ref, status)
    del item["callbackData"], item["mccMnc"]
    item["destination"] = item.pop("to")
    return item


def infobip_wrap(items: list[object]) -> bytes:
    return json.dumps({"results": items}).encode()


def infobip_report(receipts: Sequence[tuple[str, ReceiptStatus]]) -> bytes:
    return infobip_wrap([infobip_report_item(ref, status) for ref, status in receipts])


def infobip_log(receipts: Sequence[tuple[str, ReceiptStatus]]) -> bytes:
    return infobip_wrap([infobip_log_item(ref, status) for ref, status in receipts])


def api_error(code: str, description: str) -> bytes:
    return json.dumps(
        {
            "errorCode": code,
            "description": description,
            "action": "Check the request.",
            "violations": [
                {"property": "messages[0].sender", "violation": "must not be blank 79161234567"}
            ],
            "resources": [],
        }
    ).encode()


def service_exception(code: str, text: str) -> bytes:
    return json.dumps(
        {"requestError": {"serviceException": {"messageId": code, "text": text}}}
    ).encode()


def reply(status: int, body: bytes = b"", **headers: str) -> Reply:
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


INFOBIP_FAULTS: Sequence[tuple[Reply, type[SendFault]]] = (
    (reply(400, api_error("E400", "Bad request")), BadRequest),
    (reply(400, service_exception("BAD_REQUEST", "Invalid")), BadRequest),
    (reply(413), BadRequest),
    (reply(401, service_exception("UNAUTHORIZED", "Invalid login details")), AccountFault),
    (reply(401, api_error("E401", "Unauthorized")), AccountFault),
    (reply(403, api_error("E403", "Forbidden")), AccountFault),
    (reply(404, b"<html>not here</html>"), AccountFault),
    (reply(302, b"", location="https://elsewhere.example/"), AccountFault),
    (reply(429, api_error("E429", "Too many requests"), retry_after="7"), Throttled),
    (reply(429, service_exception("TOO_MANY_REQUESTS", "Slow down")), Throttled),
    (reply(408), Unknown),
    (reply(500, api_error("E500", "Internal error")), Unknown),
    (reply(502, b"<html>bad gateway</html>"), Unknown),
    (reply(503, b"", retry_after="3"), Unknown),
    (reply(200, b""), Unknown),
    (reply(200, b"<html>maintenance</html>"), Unknown),
    (reply(200, b'{"messages": "none"}'), Unknown),
    (reply(200, b'{"bulkId": "1"}'), Unknown),
    (reply(200, b"[" * 100_000), Unknown),
)


def _infobip(kind: str, statuses: Sequence[ReceiptStatus]) -> Row:
    return Row(
        kind=kind,
        answer=infobip_answer,
        report=infobip_report,
        log=infobip_log,
        several=Several(
            items=lambda body: json.loads(body)["results"],
            wrap=infobip_wrap,
            broken_items=(
                None,
                7,
                "delivered",
                {},
                {"messageId": {"a": 1}, "status": PENDING},
                {"messageId": "x" * 300, "status": PENDING},
                {"messageId": "a"},
                {"messageId": "a", "status": {"groupId": 77, "id": 1}},
                {"messageId": "a", "status": {"groupId": "3", "id": 5}},
                {"messageId": "a", "status": {"groupId": 3}},
            ),
        ),
        faults=INFOBIP_FAULTS,
        statuses=statuses,
        requests_in=lambda body: [
            message["destinations"][0]["messageId"] for message in json.loads(body)["messages"]
        ],
    )


UNISENDER_FAILED: Mapping[Verdict, str] = {
    "permanent": "permanent_unavailable",
    "temporary": "temporary_unavailable",
}
UNISENDER_STATUSES: Mapping[ReceiptStatus, dict[str, object]] = {
    "sent": {"status": "sent"},
    "delivered": {"status": "delivered", "delivery_info": {"delivery_status": "ok_delivered"}},
    "seen": {"status": "opened"},
    "undelivered": {
        "status": "hard_bounced",
        "delivery_info": {
            "delivery_status": "err_user_unknown",
            "destination_response": "550 5.1.1 No such user",
        },
    },
}


def unisender_answer(verdicts: Sequence[tuple[Submission, Verdict]]) -> bytes:
    failed = {sent.to: UNISENDER_FAILED[v] for sent, v in verdicts if v in UNISENDER_FAILED}
    return json.dumps(
        {
            "status": "success",
            "job_id": "1ZymBc-00041N-9X",
            "emails": [sent.to for sent, _ in verdicts if sent.to not in failed],
            "failed_emails": failed,
        }
    ).encode()


def unisender_wrap(items: list[object]) -> bytes:
    users = [{"user_id": 456, "project_id": "6432890213745872", "events": items}]
    return json.dumps({"auth": "0" * 32, "events_by_user": users}).encode()


def unisender_report(receipts: Sequence[tuple[str, ReceiptStatus]]) -> bytes:
    return unisender_wrap(
        [
            {
                "event_name": "transactional_email_status",
                "event_data": {
                    "job_id": "1ZymBc-00041N-9X",
                    "metadata": {"kaskad": ref},
                    "email": "anna@shop.example",
                    "event_time": "2026-11-01 10:00:01",
                    **UNISENDER_STATUSES[status],
                },
            }
            for ref, status in receipts
        ]
    )


def unisender_error(code: int, message: str) -> bytes:
    return json.dumps({"status": "error", "code": code, "message": message}).encode()


UNISENDER_FAULTS: Sequence[tuple[Reply, type[SendFault]]] = (
    (reply(400, unisender_error(168, "Field subject is required, not 79161234567")), BadRequest),
    (reply(400, unisender_error(114, "User is on another server")), AccountFault),
    (reply(413), BadRequest),
    (reply(401, unisender_error(102, "No such key")), AccountFault),
    (reply(403, unisender_error(103, "Blocked")), AccountFault),
    (reply(404, b"<html>not here</html>"), AccountFault),
    (reply(302, b"", location="https://elsewhere.example/"), AccountFault),
    (reply(429, unisender_error(905, "Too many requests"), retry_after="7"), Throttled),
    (reply(500, unisender_error(1, "Internal error")), Unknown),
    (reply(502, b"<html>bad gateway</html>"), Unknown),
    (reply(503, b"", retry_after="3"), Unknown),
    (reply(200, b""), Unknown),
    (reply(200, b"<html>maintenance</html>"), Unknown),
    (reply(200, b'{"status": "success"}'), Unknown),
    (reply(200, b'{"status": "success", "emails": "all"}'), Unknown),
    (reply(200, b"[" * 100_000), Unknown),
)
UNISENDER = Row(
    kind="unisender-go",
    answer=unisender_answer,
    report=unisender_report,
    several=Several(
        items=lambda body: json.loads(body)["events_by_user"][0]["events"],
        wrap=unisender_wrap,
        broken_items=(
            None,
            7,
            "delivered",
            {},
            {"event_data": {"status": "delivered"}},
            {"event_data": {"status": "delivered", "metadata": {"kaskad": "x" * 300}}},
            {"event_data": {"status": 7, "metadata": {"kaskad": "a"}}},
            {"event_data": {"status": "unsubscribed", "email": "nobody"}},
        ),
    ),
    faults=UNISENDER_FAULTS,
    statuses=("sent", "delivered", "seen", "undelivered"),
    requests_in=lambda body: [
        each["metadata"]["kaskad"] for each in json.loads(body)["message"]["recipients"]
    ],
    verdicts=("accepted", "permanent", "temporary"),
)

SMSC_VERDICTS: Mapping[Verdict, dict[str, object]] = {
    "permanent": {"error": "invalid number", "error_code": 7, "id": "m-0.1"},
    "account": {"error": "no money", "error_code": 3, "id": "m-0.1"},
}
SMSC_STATUSES: Mapping[ReceiptStatus, str] = {
    "sent": "status=0&err=0",
    "delivered": "status=1&err=0&cost=5.20",
    "undelivered": "status=20&err=6&cost=5.20",
    "expired": "status=3&err=0",
    "rejected": "status=23&err=254",
}


def smsc_answer(verdicts: Sequence[tuple[Submission, Verdict]]) -> bytes:
    ((sent, verdict),) = verdicts
    return json.dumps(SMSC_VERDICTS.get(verdict, {"id": sent.ref, "cnt": 2})).encode()


def smsc_report(receipts: Sequence[tuple[str, ReceiptStatus]]) -> bytes:
    ((ref, status),) = receipts
    told = SMSC_STATUSES[status]
    return f"id={ref}&phone=79000000001&cnt=2&ts=1793527200&sender=Shop&{told}".encode()


SMSC_RU = Row(
    kind="smsc-ru",
    answer=smsc_answer,
    report=smsc_report,
    faults=(
        (reply(200, b'{"error":"authorise error","error_code":2}'), AccountFault),
        (reply(200, b'{"error":"no money","error_code":3}'), AccountFault),
        (reply(200, b'{"error":"IP is blocked","error_code":4}'), AccountFault),
        (reply(200, b'{"error":"too many concurrent requests","error_code":9}'), Throttled),
        (reply(401), AccountFault),
        (reply(404, b"<html>not here</html>"), AccountFault),
        (reply(400, b"{}"), BadRequest),
        (reply(429, b"", retry_after="7"), Throttled),
        (reply(500, b"<html>oops</html>"), Unknown),
        (reply(503, b"", retry_after="3"), Unknown),
        (reply(200, b""), Unknown),
        (reply(200, b"{}"), Unknown),
        (reply(200, b"<html>maintenance</html>"), Unknown),
        (reply(200, b"[" * 100_000), Unknown),
    ),
    statuses=("sent", "delivered", "undelivered", "expired", "rejected"),
    requests_in=lambda body: [json.loads(body)["id"]],
    verdicts=("accepted", "permanent", "account"),
)


TWILIO_REFUSED: Mapping[Verdict, dict[str, object]] = {
    "permanent": {"code": 21211, "message": "Invalid 'To' Phone Number", "status": 400},
    "temporary": {"code": 21611, "message": "The queue is full", "status": 400},
    "account": {"code": 30002, "message": "Account suspended", "status": 400},
}
TWILIO_STATUSES: Mapping[ReceiptStatus, str] = {
    "sent": "sent",
    "delivered": "delivered",
    "undelivered": "undelivered&ErrorCode=30003",
    "expired": "failed&ErrorCode=30036",
    "rejected": "failed&ErrorCode=30007",
}


def twilio_answer(verdicts: Sequence[tuple[Submission, Verdict]]) -> Reply:
    ((sent, verdict),) = verdicts
    if verdict in TWILIO_REFUSED:
        return reply(400, json.dumps(TWILIO_REFUSED[verdict]).encode())
    told = {"sid": f"SM-{sent.ref}", "status": "queued", "num_segments": "2", "error_code": None}
    return reply(201, json.dumps(told).encode())


def twilio_report(receipts: Sequence[tuple[str, ReceiptStatus]]) -> bytes:
    ((ref, status),) = receipts
    told = TWILIO_STATUSES[status]
    return f"MessageSid={ref}&To=%2B79000000001&From=Shop&MessageStatus={told}".encode()


TWILIO = Row(
    kind="twilio-sms",
    answer=twilio_answer,
    report=twilio_report,
    faults=(
        (reply(401, b'{"code":20003,"message":"Authenticate","status":401}'), AccountFault),
        (reply(400, b'{"code":30002,"message":"Account suspended","status":400}'), AccountFault),
        (reply(400, b"{}"), BadRequest),
        (reply(404, b'{"code":20404,"message":"not found","status":404}'), AccountFault),
        (reply(429, b'{"code":20429,"message":"Too Many Requests"}', retry_after="7"), Throttled),
        (reply(500, b'{"code":20500,"message":"Internal"}'), Unknown),
        (reply(503, b"", retry_after="3"), Unknown),
        (reply(201, b""), Unknown),
        (reply(201, b"{}"), Unknown),
        (reply(200, b"<html>maintenance</html>"), Unknown),
        (reply(201, b"[" * 100_000), Unknown),
    ),
    statuses=("sent", "delivered", "undelivered", "expired", "rejected"),
    requests_in=lambda body: [
        f"m-{i}.1"
        for i in range(5)
        if submission(f"m-{i}.1").to == dict(parse_qsl(body.decode()))["To"]
    ],
    verdicts=("accepted", "permanent", "temporary", "account"),
    own_ids=True,
    timeless=True,
)


VONAGE_PROBLEMS: Mapping[Verdict, tuple[int, int, str]] = {
    "permanent": (422, 1300, "Not part of the provider's network"),
    "temporary": (422, 1241, "Too many send requests"),
    "account": (422, 1070, "Quota exceeded"),
    "duplicate": (422, 1320, "Message already sent"),
}


def vonage_problem(status: int, code: int, detail: str, **headers: str) -> Reply:
    kind = f"https://developer.vonage.com/api-errors/messages#{code}"
    body = {"type": kind, "title": code, "detail": detail, "instance": "bf0ca0bf"}
    return reply(status, json.dumps(body).encode(), **headers)


def vonage_answer(verdicts: Sequence[tuple[Submission, Verdict]]) -> Reply:
    ((_, verdict),) = verdicts
    if verdict in VONAGE_PROBLEMS:
        return vonage_problem(*VONAGE_PROBLEMS[verdict])
    return reply(202, b'{"message_uuid":"aaaaaaaa-bbbb-cccc-dddd-0123456789ab"}')


VONAGE_EVENTS: Mapping[ReceiptStatus, dict[str, object]] = {
    "sent": {"status": "submitted"},
    "delivered": {"status": "delivered", "usage": {"currency": "EUR", "price": "0.0333"}},
    "seen": {"status": "read"},
    "undelivered": {"status": "undeliverable", "error": {"type": "x#1180", "title": 1180}},
    "expired": {"status": "rejected", "error": {"type": "x#1360", "title": "1360"}},
    "rejected": {"status": "rejected", "error": {"type": "x#1120", "title": "1120"}},
}


def vonage_report(receipts: Sequence[tuple[str, ReceiptStatus]]) -> bytes:
    ((ref, status),) = receipts
    event = {
        "message_uuid": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
        "client_ref": ref,
        "to": "79000000001",
        "from": "Shop",
        "timestamp": "2026-11-01T10:00:00.250Z",
        "sms": {"count_total": "2"},
    }
    return json.dumps(event | VONAGE_EVENTS[status]).encode()


def _vonage(kind: str, statuses: Sequence[ReceiptStatus]) -> Row:
    return Row(
        kind=kind,
        answer=vonage_answer,
        report=vonage_report,
        faults=(
            (reply(401, b'{"type":"x#UNAUTHORIZED","title":"Unauthorized"}'), AccountFault),
            (reply(402, b'{"title":"Low balance"}'), AccountFault),
            (vonage_problem(422, 1070, "Quota exceeded"), AccountFault),
            (reply(404, b"<html>not here</html>"), AccountFault),
            (reply(422, b'{"type":"x#invalid","title":"Invalid params"}'), BadRequest),
            (vonage_problem(429, 1000, "Throttled", retry_after="7"), Throttled),
            (reply(500, b'{"title":"Internal"}'), Unknown),
            (reply(503, b"", retry_after="3"), Unknown),
            (reply(202, b""), Unknown),
            (reply(202, b"{}"), Unknown),
            (reply(200, b"<html>maintenance</html>"), Unknown),
            (reply(202, b"[" * 100_000), Unknown),
        ),
        statuses=statuses,
        requests_in=lambda body: [json.loads(body)["client_ref"]],
    )


ROWS: Sequence[Row] = (
    _infobip("infobip-sms", ("sent", "delivered", "undelivered", "expired", "rejected")),
    _infobip("infobip-viber", ("sent", "delivered", "seen", "undelivered", "expired", "rejected")),
    UNISENDER,
    SMSC_RU,
    TWILIO,
    _vonage("vonage-sms", ("sent", "delivered", "undelivered", "expired", "rejected")),
    _vonage("vonage-viber", ("sent", "delivered", "seen", "undelivered", "expired", "rejected")),
)
