"""Events of mails as SES, SendGrid, Mailgun, Postmark and UniSender Go report them, and who signed.

The bodies are written by hand from the providers' own descriptions; none was recorded.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from providers.contract import PersonReply, Receipt
from providers.http.adapter import Receipts
from providers.http.callback_proofs import Signature
from providers.mail.events.mailgun import MailgunSignature
from providers.mail.events.sendgrid_signature import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    SendGridSignature,
)
from providers.mail.events.ses_signature import SesSignature
from providers.mail.events.table import EVENTS
from providers.unisender_go.events import UniSenderSignature, read_events

REF = "01J0000000000000000A.1"
WHO = "Anna@Shop.example"
AT = "2026-11-01T10:00:01.000Z"
AT_MS = 1_793_527_201_000


def read(source: str, body: object) -> Receipts:
    return EVENTS[source].reader.receipts(json.dumps(body).encode(), "application/json")


def one(found: Receipts) -> Receipt:
    assert (found.faults, found.replies) == ([], [])
    (receipt,) = found.receipts
    assert receipt.ref == REF
    return receipt


def wished(found: Receipts) -> PersonReply:
    assert (found.faults, found.receipts) == ([], [])
    (reply,) = found.replies
    assert reply.sender == "anna@shop.example"
    assert reply.id
    return reply


# --- SendGrid


def sendgrid(event: str, **more: Any) -> Receipts:
    item = {
        "event": event,
        "email": WHO,
        "timestamp": AT_MS // 1000,
        "kaskad": REF,
        "sg_event_id": "ZGVsaXZlcmVkLTA",
        "sg_message_id": "14c5d75ce93.dfd.64b469",
        "smtp-id": f"<{REF}@shop.example>",
    }
    return read("sendgrid", [item | more])


@pytest.mark.parametrize(
    ("event", "status"),
    [("processed", "sent"), ("delivered", "delivered"), ("open", "seen"), ("click", "seen")],
)
def test_sendgrid_tells_what_a_mail_came_to(event: str, status: str) -> None:
    receipt = one(sendgrid(event))
    assert (receipt.status, receipt.at_ms, receipt.fault) == (status, AT_MS, None)


@pytest.mark.parametrize(
    ("more", "about", "unreachable"),
    [
        ({"type": "bounce", "status": "5.1.1", "reason": "550 no such user"}, "person", True),
        ({"type": "bounce", "status": "5.0.0", "reason": "no MX"}, "person", True),
        ({"type": "blocked", "status": "5.7.1", "reason": "550 blocked"}, "account", False),
        ({"type": "blocked", "status": "4.0.0", "reason": "unable to connect"}, "person", False),
        ({"type": "bounce", "status": "4.2.2", "reason": "full"}, "person", False),
        ({"type": "bounce", "status": "5.2.2", "reason": "full"}, "person", False),
        ({"type": "bounce", "status": "5.7.1", "reason": "no relaying"}, "account", False),
        ({"type": "bounce", "status": "5.6.0", "reason": "no such charset"}, "message", False),
    ],
)
def test_sendgrid_tells_why_a_mail_bounced(
    more: dict[str, str], about: str, unreachable: bool
) -> None:
    receipt = one(sendgrid("bounce", **more))
    assert (receipt.status, receipt.about, receipt.unreachable) == (
        *("undelivered", about, unreachable),
    )
    assert receipt.fault is not None
    assert receipt.fault.name == more["reason"]


def test_no_address_that_a_bounce_quotes_is_kept() -> None:
    receipt = one(sendgrid("bounce", status="5.1.1", reason=f"550 <{WHO}> is unknown"))
    assert receipt.fault is not None
    assert receipt.fault.name == "550 <…> is unknown"


@pytest.mark.parametrize(
    ("reason", "about", "unreachable"),
    [
        ("Bounced Address", "person", True),
        ("Invalid", "person", True),
        ("Unsubscribed Address", "person", False),
        ("Spam Reporting Address", "person", False),
        ("Spam Content", "message", False),
        ("Invalid SMTPAPI header", "account", False),
        ("Recipient List over Package Quota", "account", False),
        ("what nobody knows", "account", False),
    ],
)
def test_sendgrid_tells_why_it_dropped_a_mail(reason: str, about: str, unreachable: bool) -> None:
    receipt = one(sendgrid("dropped", reason=reason))
    assert (receipt.status, receipt.about, receipt.unreachable) == ("rejected", about, unreachable)


@pytest.mark.parametrize(
    ("event", "kind"),
    [("spamreport", "block"), ("unsubscribe", "block"), ("group_resubscribe", "unblock")],
)
def test_sendgrid_passes_wishes_on(event: str, kind: str) -> None:
    reply = wished(sendgrid(event))
    assert (reply.kind, reply.id, reply.at_ms) == (kind, "ZGVsaXZlcmVkLTA", AT_MS)


def test_what_says_nothing_of_a_person_is_left_out() -> None:
    assert sendgrid("deferred") == Receipts([])
    assert sendgrid("open", sg_machine_open=True) == Receipts([])


def test_a_mail_of_somebody_else_is_a_fault_beside_its_neighbours() -> None:
    good = {"event": "delivered", "kaskad": REF, "timestamp": 1}
    found = read("sendgrid", [{"event": "delivered", "email": WHO}, good, 7])
    assert [receipt.ref for receipt in found.receipts] == [REF]
    assert [fault[:6] for fault in found.faults] == ["Item 0", "Item 2"]
    (fault,) = sendgrid("unsubscribe", email="a b@c.example").faults
    assert "c.example" not in fault


def test_sendgrids_signature_is_over_timestamp_and_body() -> None:
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    body = b'[{"event":"delivered"}]\r\n'
    signature = key.sign(b"1600112502" + body, ec.ECDSA(hashes.SHA256()))
    headers = {
        SIGNATURE_HEADER: base64.b64encode(signature).decode(),
        TIMESTAMP_HEADER: "1600112502",
    }
    checked = SendGridSignature((public(other), public(key)))  # while a key is changed
    assert checked.certificate_url(body) is None
    assert checked.holds(headers, body, b"")
    assert not checked.holds(headers, body + b" ", b"")
    assert not checked.holds(headers | {TIMESTAMP_HEADER: "1600112503"}, body, b"")
    assert not checked.holds(headers | {SIGNATURE_HEADER: "?"}, body, b"")
    assert not checked.holds({}, body, b"")
    assert not SendGridSignature((public(other),)).holds(headers, body, b"")
    for text in ("", "not a key", base64.b64encode(b"not a key").decode()):
        with pytest.raises(ValueError, match="key"):
            SendGridSignature((text,))


def public(key: ec.EllipticCurvePrivateKey) -> str:
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(der).decode()


# --- Mailgun


def mailgun(event: str, **more: Any) -> Receipts:
    data = {
        "event": event,
        "id": "Ase7i2zsRYeDXztHGENqRA",
        "timestamp": AT_MS / 1000,
        "recipient": WHO,
        "user-variables": {"kaskad": REF},
        "message": {"headers": {"message-id": f"{REF}@shop.example"}},
    }
    return read("mailgun", {"signature": {}, "event-data": data | more} | {"signature": None})


@pytest.mark.parametrize(
    ("event", "status"),
    [("accepted", "sent"), ("delivered", "delivered"), ("opened", "seen"), ("clicked", "seen")],
)
def test_mailgun_tells_what_a_mail_came_to(event: str, status: str) -> None:
    receipt = one(mailgun(event))
    assert (receipt.status, receipt.at_ms) == (status, AT_MS)


@pytest.mark.parametrize(
    ("reason", "status", "about", "unreachable"),
    [
        ("bounce", {"code": 550, "enhanced-code": "5.1.1", "message": "none"}, "person", True),
        ("bounce", {"code": 550, "message": "none"}, "person", True),
        ("suppress-bounce", {"code": 605, "description": "bounced before"}, "person", True),
        ("generic", {"code": 552, "enhanced-code": "5.2.2", "message": "full"}, "person", False),
        ("bounce", {"code": 550, "enhanced-code": "5.7.1", "message": "spam"}, "account", False),
        ("old", {"code": 602, "message": "too old"}, "person", False),
    ],
)
def test_mailgun_tells_why_a_mail_failed(
    reason: str, status: dict[str, Any], about: str, unreachable: bool
) -> None:
    more = {"reason": reason, "severity": "permanent", "delivery-status": status}
    receipt = one(mailgun("failed", **more))
    assert (receipt.status, receipt.about, receipt.unreachable) == (
        *("undelivered", about, unreachable),
    )


def test_mailgun_goes_on_after_what_is_temporary_and_opens_some_mails_itself() -> None:
    assert mailgun("failed", severity="temporary") == Receipts([])
    assert mailgun("opened", **{"client-info": {"bot": "apple"}}) == Receipts([])
    assert one(mailgun("rejected")).about == "account"


@pytest.mark.parametrize("event", ["unsubscribed", "complained"])
def test_mailgun_passes_wishes_on(event: str) -> None:
    assert wished(mailgun(event)).kind == "block"


def test_mailguns_signature_is_in_the_body() -> None:
    token, timestamp = "ae4ac0f3e2b0e1d5", "1529006854"
    signature = hmac.new(b"s1gn", (timestamp + token).encode(), "sha256").hexdigest()
    signed = {"timestamp": timestamp, "token": token, "signature": signature}

    def body(**changes: str) -> bytes:
        return json.dumps({"signature": signed | changes, "event-data": {}}).encode()

    checked = MailgunSignature(("new", "s1gn"))
    assert checked.holds({}, body(), b"")
    assert not checked.holds({}, body(token="0"), b"")
    assert not checked.holds({}, body(signature="é"), b"")
    assert not checked.holds({}, b'{"event-data": {}}', b"")
    assert not checked.holds({}, b"nonsense", b"")
    assert not MailgunSignature(("new",)).holds({}, body(), b"")
    keyless = hmac.new(b"", (timestamp + token).encode(), "sha256").hexdigest()
    assert not MailgunSignature(("", "s1gn")).holds({}, body(signature=keyless), b"")


# --- Postmark


def postmark(kind: str, **more: Any) -> Receipts:
    body = {
        "RecordType": kind,
        "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483",
        "Metadata": {"kaskad": REF},
        "MessageStream": "outbound",
        "ServerID": 23,
    }
    return read("postmark", body | more)


@pytest.mark.parametrize(
    ("kind", "more", "status"),
    [
        ("Delivery", {"Recipient": WHO, "DeliveredAt": AT}, "delivered"),
        ("Open", {"Recipient": WHO, "ReceivedAt": AT, "FirstOpen": True}, "seen"),
        ("Click", {"Recipient": WHO, "ReceivedAt": AT, "OriginalLink": "https://x/"}, "seen"),
    ],
)
def test_postmark_tells_what_a_mail_came_to(kind: str, more: dict[str, Any], status: str) -> None:
    receipt = one(postmark(kind, **more))
    assert (receipt.status, receipt.at_ms) == (status, AT_MS)


@pytest.mark.parametrize(
    ("kind", "about", "unreachable"),
    [
        ("HardBounce", "person", True),
        ("BadEmailAddress", "person", True),
        ("SoftBounce", "person", False),
        ("SpamNotification", "account", False),
    ],
)
def test_postmark_tells_why_a_mail_bounced(kind: str, about: str, unreachable: bool) -> None:
    more = {"ID": 42, "Type": kind, "Email": WHO, "BouncedAt": AT, "Details": "smtp;550"}
    receipt = one(postmark("Bounce", **more))
    assert (receipt.about, receipt.unreachable, receipt.at_ms) == (about, unreachable, AT_MS)


@pytest.mark.parametrize("kind", ["Transient", "DnsError", "AutoResponder", "AddressChange"])
def test_postmark_goes_on_after_some_bounces_and_calls_answers_of_machines_so(kind: str) -> None:
    more = {"ID": 42, "Type": kind, "Email": WHO, "BouncedAt": AT, "Details": "smtp;450"}
    assert postmark("Bounce", **more) == Receipts([])


def test_postmark_passes_wishes_on_and_keeps_its_own_to_itself() -> None:
    assert wished(postmark("SpamComplaint", ID=42, Email=WHO, BouncedAt=AT)).kind == "block"
    change = {"Recipient": WHO, "ChangedAt": AT, "SuppressSending": True}
    told = postmark("SubscriptionChange", **change, SuppressionReason="ManualSuppression")
    assert wished(told).kind == "block"
    back = change | {"SuppressSending": False}
    assert wished(postmark("SubscriptionChange", **back)).kind == "unblock"
    assert wished(postmark("SubscriptionChange", **back, Origin="Recipient")).kind == "unblock"
    for sender in ("Customer", "Admin"):
        read = postmark("SubscriptionChange", **back, Origin=sender)
        assert not read.replies, "the person took nothing back"
    by_hand = change | {"MessageID": None, "SuppressionReason": "ManualSuppression"}
    first = wished(postmark("SubscriptionChange", **by_hand))
    (second,) = postmark("SubscriptionChange", **by_hand | {"Recipient": "b@x.example"}).replies
    assert first.id != second.id
    dead = postmark("SubscriptionChange", **change, SuppressionReason="HardBounce")
    assert dead == Receipts([])


# --- SES


def sns(message: object, **changes: Any) -> dict[str, Any]:
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:mail",
        "Message": json.dumps(message),
        "Timestamp": "2026-11-01T10:00:02.000Z",
        "SignatureVersion": "2",
        "Signature": "",
        "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-"
        "0123456789abcdef.pem",
    } | changes


def ses(kind: str, **more: Any) -> Receipts:
    message = {
        "eventType": kind,
        "mail": {
            "timestamp": AT,
            "messageId": "0000015d",
            "destination": [WHO],
            "tags": {"kaskad": [REF.replace(".", "_")], "ses:operation": ["SendSmtpEmail"]},
        },
    }
    return read("ses", sns(message | more))


@pytest.mark.parametrize(
    ("kind", "more", "status"),
    [
        ("Send", {}, "sent"),
        ("Delivery", {"delivery": {"timestamp": AT, "recipients": [WHO]}}, "delivered"),
        ("Open", {"open": {"timestamp": AT, "userAgent": "Mozilla/5.0"}}, "seen"),
        ("Click", {"click": {"timestamp": AT, "link": "https://x/"}}, "seen"),
    ],
)
def test_ses_tells_what_a_mail_came_to(kind: str, more: dict[str, Any], status: str) -> None:
    receipt = one(ses(kind, **more))
    assert (receipt.status, receipt.at_ms) == (status, AT_MS)


@pytest.mark.parametrize(
    ("kind", "status", "unreachable"),
    [("Permanent", "5.1.1", True), ("Transient", "5.2.2", False), ("Undetermined", "", False)],
)
def test_ses_tells_why_a_mail_bounced(kind: str, status: str, unreachable: bool) -> None:
    recipient = {
        "emailAddress": WHO,
        "action": "failed",
        "status": status,
        "diagnosticCode": "smtp; 550 no such user",
    }
    bounce = {
        "bounceType": kind,
        "bounceSubType": "General",
        "bouncedRecipients": [recipient],
        "timestamp": AT,
    }
    receipt = one(ses("Bounce", bounce=bounce))
    assert (receipt.status, receipt.unreachable, receipt.at_ms) == (
        *("undelivered", unreachable, AT_MS),
    )


COMPLAINT = {
    "complainedRecipients": [{"emailAddress": WHO}],
    "timestamp": AT,
    "feedbackId": "0100017",
}


def test_ses_passes_wishes_on() -> None:
    complaint = COMPLAINT | {"complaintFeedbackType": "abuse"}
    reply = wished(ses("Complaint", complaint=complaint))
    assert (reply.kind, reply.id, reply.at_ms) == ("block", "0100017", AT_MS)
    back = complaint | {"complaintFeedbackType": "not-spam"}
    assert ses("Complaint", complaint=back) == Receipts([])


@pytest.mark.parametrize(
    ("chosen", "leaves"),
    [
        ({"unsubscribeAll": True, "topicSubscriptionStatus": []}, True),
        ({"unsubscribeAll": False, "topicSubscriptionStatus": ["OptIn", "OptOut"]}, True),
        ({"unsubscribeAll": False, "topicSubscriptionStatus": ["OptIn", "OptIn"]}, False),
        ({"unsubscribeAll": False, "topicSubscriptionStatus": []}, False),
        ({"unsubscribeAll": False}, False),
        ({}, True),
        (None, True),
    ],
)
def test_who_only_joins_a_list_of_ses_leaves_none(chosen: Any, leaves: bool) -> None:
    if chosen and "topicSubscriptionStatus" in chosen:
        topics = [
            {"topicName": "news", "subscriptionStatus": status}
            for status in chosen["topicSubscriptionStatus"]
        ]
        chosen = chosen | {"topicSubscriptionStatus": topics}
    told = {"contactList": "all", "timestamp": AT, "newTopicPreferences": chosen}
    found = ses("Subscription", subscription=told)
    assert [reply.kind for reply in found.replies] == ["block"] * leaves


def test_what_ses_does_not_send_for_an_older_complaint_is_refused() -> None:
    complaint = COMPLAINT | {"complaintSubType": "OnAccountSuppressionList"}
    receipt = one(ses("Complaint", complaint=complaint))
    assert (receipt.status, receipt.about, receipt.unreachable, receipt.at_ms) == (
        *("rejected", "person", False, AT_MS),
    )


def test_ses_subscriptions_are_confirmed_at_amazon_only() -> None:
    url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=a&Token=b"
    made = sns("You have chosen", Type="SubscriptionConfirmation", SubscribeURL=url, Token="b")
    assert read("ses", made).confirm_url == url
    for other in (
        "https://evil.example/?Action=ConfirmSubscription&Token=b",
        "https://sns.eu-west-1.amazonaws.com.evil.example/?Action=ConfirmSubscription&Token=b",
        "https://sns.eu-west-1.amazonaws.com@evil.example/?Action=ConfirmSubscription&T=b",
        "http://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=b",
        "https://sns.eu-west-1.amazonaws.com/?Action=DeleteTopic&Token=b",
        "https://sns.s3-eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=b",
    ):
        with pytest.raises(ValueError, match="Amazon"):
            read("ses", made | {"SubscribeURL": other})


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789.pem",
        "https://evil.example/SimpleNotificationService-0123456789.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-01234567.pem",
        "https://s3.amazonaws.com/SimpleNotificationService-0123456789.pem",
        "https://sns.s3-us-west-2.amazonaws.com/SimpleNotificationService-0123456789.pem",
        "https://sns.s3-accelerate.amazonaws.com/SimpleNotificationService-0123456789.pem",
        "https://sns.eu-west-1.amazonaws.com/other.pem",
        "",
    ],
)
def test_a_certificate_of_another_place_is_not_asked_for(url: str) -> None:
    body = json.dumps(sns({}, SigningCertURL=url)).encode()
    assert SesSignature().certificate_url(body) is None
    assert not SesSignature().holds({}, body, b"")


@pytest.mark.parametrize("region", ["us-east-1", "ap-southeast-10", "us-gov-west-1", "cn-north-1"])
def test_every_region_of_amazon_has_certificates(region: str) -> None:
    host = f"sns.{region}.amazonaws.com{'.cn' if region.startswith('cn') else ''}"
    url = f"https://{host}/SimpleNotificationService-0123456789.pem"
    body = json.dumps(sns({}, SigningCertURL=url)).encode()
    assert SesSignature().certificate_url(body) == url


@pytest.mark.parametrize(
    ("version", "algorithm"),
    [("1", hashes.SHA1()), ("2", hashes.SHA256())],  # noqa: S303 - theirs
)
def test_sns_signs_some_of_its_fields_in_an_order_of_their_own(
    version: str, algorithm: hashes.HashAlgorithm
) -> None:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    made = sns({"eventType": "Send"}, SignatureVersion=version, Subject="About")
    text = "".join(
        f"{name}\n{made[name]}\n"
        for name in ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
    )
    signature = key.sign(text.encode(), padding.PKCS1v15(), algorithm)
    made["Signature"] = base64.b64encode(signature).decode()
    body, certificate = json.dumps(made).encode(), certificate_of(key)
    assert SesSignature().certificate_url(body) == made["SigningCertURL"]
    assert SesSignature().holds({}, body, certificate)
    forged = json.dumps(made | {"Message": "{}"}).encode()
    assert not SesSignature().holds({}, forged, certificate)
    assert not SesSignature().holds({}, body, b"no certificate")
    assert not SesSignature().holds({}, b"nonsense", certificate)
    assert not SesSignature().holds(
        {}, json.dumps(made | {"SignatureVersion": "3"}).encode(), certificate
    )


def certificate_of(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day.replace(year=2030))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


# --- UniSender Go


def unisender(status: str, **more: Any) -> Receipts:
    data = {
        "job_id": "1ZymBc-00041N-9X",
        "metadata": {"kaskad": REF},
        "email": WHO,
        "status": status,
        "event_time": "2026-11-01 10:00:01",
    }
    event = {"event_name": "transactional_email_status", "event_data": data | more}
    return read_events(json.dumps(event).encode())


@pytest.mark.parametrize(
    ("status", "code", "about", "unreachable"),
    [
        ("hard_bounced", "err_user_unknown", "person", True),
        ("hard_bounced", "err_spam_rejected", "account", False),
        ("hard_bounced", "err_mailbox_full", "person", False),
        ("hard_bounced", "err_mailbox_discarded", "person", True),
        ("hard_bounced", "err_unreachable", "person", True),
        ("hard_bounced", "err_spam_removed", "account", False),
        ("hard_bounced", "err_too_large", "message", False),
        ("hard_bounced", None, "person", False),
    ],
)
def test_unisender_tells_why_a_mail_bounced(
    status: str, code: str | None, about: str, unreachable: bool
) -> None:
    receipt = one(unisender(status, delivery_info={"delivery_status": code}))
    assert (receipt.status, receipt.about, receipt.unreachable, receipt.at_ms) == (
        *("undelivered", about, unreachable, AT_MS),
    )


def test_unisender_goes_on_after_what_is_temporary_and_passes_wishes_on() -> None:
    for code in ("err_will_retry", "err_mailbox_full"):
        info = {"delivery_status": code}
        assert unisender("soft_bounced", delivery_info=info) == Receipts([])
    assert unisender("soft_bounced") == Receipts([]), "as it comes where no details are asked for"
    assert [wished(unisender(s)).kind for s in ("unsubscribed", "spam", "subscribed")] == [
        *("block", "block", "unblock"),
    ]


BESIDE: list[tuple[Callable[..., Receipts], str, dict[str, Any], tuple[str, ...]]] = [
    (
        sendgrid,
        "bounce",
        {"type": "bounce"},
        ("email", "timestamp", "sg_event_id", "sg_machine_open", "status", "reason"),
    ),
    (sendgrid, "spamreport", {}, ("timestamp", "sg_event_id", "kaskad", "status", "reason")),
    (
        mailgun,
        "failed",
        {"severity": "permanent"},
        ("id", "timestamp", "recipient", "reason", "delivery-status", "client-info"),
    ),
    (
        mailgun,
        "failed",
        {"severity": "permanent", "delivery-status": {"code": 550}},
        ("code", "enhanced-code", "message", "description"),
    ),
    (mailgun, "complained", {}, ("id", "timestamp", "user-variables", "delivery-status")),
    (
        postmark,
        "Bounce",
        {"Type": "HardBounce"},
        ("Email", "Recipient", "Details", "Description", "BouncedAt"),
    ),
    (postmark, "SpamComplaint", {"Email": WHO}, ("Metadata", "Details", "BouncedAt")),
    (ses, "Delivery", {}, ("delivery", "open", "click", "reject", "subscription", "complaint")),
    (ses, "Reject", {}, ("reject", "delivery")),
    (unisender, "hard_bounced", {}, ("email", "event_time", "delivery_info")),
    (unisender, "unsubscribed", {}, ("metadata", "event_time", "delivery_info")),
]


@pytest.mark.parametrize("odd", [None, 7, [], {}, [7], {"a": 7}, True], ids=json.dumps)
@pytest.mark.parametrize(("told", "kind", "more", "fields"), BESIDE)
def test_what_an_event_says_beside_its_message_costs_nobody_the_event(
    told: Callable[..., Receipts],
    kind: str,
    more: dict[str, Any],
    fields: tuple[str, ...],
    odd: object,
) -> None:
    usual = told(kind, **more)
    for field in fields:
        if field == "complaint" and odd is not None:
            continue  # what is read of a complaint is the address that complains
        inner = more.get("delivery-status")
        said = {"delivery-status": inner | {field: odd}} if inner else {field: odd}
        found = told(kind, **more | said)
        assert found.faults == [], field
        assert [(r.status, r.ref) for r in found.receipts] == [
            (r.status, r.ref) for r in usual.receipts
        ]
        assert [(r.kind, r.sender) for r in found.replies] == [
            (r.kind, r.sender) for r in usual.replies
        ]


def test_what_is_no_user_of_unisender_fails_no_neighbour() -> None:
    data = {"status": "delivered", "metadata": {"kaskad": REF}}
    good = {"user_id": 1, "events": [{"event_data": data}]}
    body = {"events_by_user": [{"events": None}, good, 7]}
    found = read_events(json.dumps(body).encode())
    assert [each.ref for each in found.receipts] == [REF]
    assert [fault[:6] for fault in found.faults] == ["Item 0", "Item 2"]


def test_unisenders_signature_is_the_body_with_the_key_in_its_place() -> None:
    body = b'{"auth":"%b","events_by_user":[]}'
    auth = hashlib.md5(body % b"k3y", usedforsecurity=False).hexdigest().encode()
    checked = UniSenderSignature("k3y")
    assert checked.holds({}, body % auth, b"")
    assert not checked.holds({}, (body % auth).replace(b"[]", b"[ ]"), b"")
    assert not checked.holds({}, body % (b"0" * 32), b"")
    assert not checked.holds({}, b'{"events_by_user":[]}', b"")
    assert not UniSenderSignature("").holds({}, body % auth, b"")


def test_a_wish_without_an_id_is_known_by_what_it_says_and_of_whom() -> None:
    told = [
        wished(unisender("unsubscribed")),
        wished(unisender("subscribed")),
        *unisender("unsubscribed", email="boris@example.com").replies,
        wished(unisender("unsubscribed", event_time="2026-11-01 10:00:02")),
    ]
    assert len({reply.id for reply in told}) == 4
    assert wished(unisender("unsubscribed")).id == told[0].id
    assert not any("@" in reply.id for reply in told)


# --- all of them


@pytest.mark.parametrize("source", EVENTS)
@pytest.mark.parametrize("body", [b"", b"<a/>", b"null null", b"\xff", b"[" * 100_000])
def test_a_body_that_cannot_be_read_is_a_value_error(source: str, body: bytes) -> None:
    with pytest.raises(ValueError, match="body"):
        EVENTS[source].reader.receipts(body, "application/json")


GOOD: dict[str, dict[str, Any]] = {
    "sendgrid": {"event": "bounce", "email": WHO, "timestamp": 1, "kaskad": REF, "status": "5.1.1"},
    "mailgun": {
        "event-data": {
            "event": "failed",
            "severity": "permanent",
            "recipient": WHO,
            "timestamp": 1.5,
            "user-variables": {"kaskad": REF},
            "delivery-status": {"code": 550, "message": "no"},
        }
    },
    "postmark": {
        "RecordType": "Bounce",
        "Type": "HardBounce",
        "Email": WHO,
        "BouncedAt": AT,
        "Metadata": {"kaskad": REF},
    },
    "ses": sns({"eventType": "Bounce", "mail": {"tags": {"kaskad": [REF]}}}),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("source", EVENTS)
@given(data=st.data())
def test_no_field_of_any_value_breaks_the_reading(source: str, data: st.DataObject) -> None:
    odd = GOOD[source]
    inside = odd["event-data"] if source == "mailgun" else odd
    name = data.draw(st.sampled_from(sorted(inside)))
    changed = inside | {name: data.draw(JSON)}
    body = json.dumps(odd | {"event-data": changed} if source == "mailgun" else changed)
    try:
        found = read(source, json.loads(body))
    except ValueError:
        return
    assert len(found.receipts) + len(found.replies) + len(found.faults) <= 1


@pytest.mark.parametrize(
    "signature", [SesSignature(), MailgunSignature(("k",)), UniSenderSignature("k")]
)
@given(body=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_signature_of_any_bytes_does_not_hold(signature: Signature, body: bytes) -> None:
    assert not signature.holds({}, body, body)
    assert signature.certificate_url(body) is None


@pytest.mark.parametrize("source", EVENTS)
def test_what_comes_back_stands_in_one_header_of_the_mail(source: str) -> None:
    for name, value in EVENTS[source].tags(REF):
        assert (name + value).isascii()
        assert (name + value).isprintable()
