"""Amazon SES by SNS: an envelope that Amazon signs, with one event as JSON text inside.

Anybody's topic is signed by the same Amazon, so a token or HTTP basic is asked for as well. The
certificate is taken from Amazon's own hosts only, and so is the address that confirms a
subscription. A tag cannot hold a dot: our reference has underscores there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from providers import reasons
from providers.contract import Channel, ReceiptStatus
from providers.http import json_text
from providers.http.adapter import Receipts
from providers.mail.events import reading
from providers.mail.events.reading import CALLBACK_BYTES_MAX, Said

STATUSES: Mapping[str, ReceiptStatus] = {
    "Send": "sent",
    "Delivery": "delivered",
    "Open": "seen",
    "Click": "seen",
}
# Of a complaint: there was one before, and this mail was not sent at all.
SUPPRESSED = "OnAccountSuppressionList"
_SIGNED_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_SIGNED_SUBSCRIPTION = (
    *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
)
# Of a region. Not any name: sns.s3-us-west-2.amazonaws.com is somebody's bucket called sns.
HOST = r"https://sns\.[a-z]{2,3}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}\.amazonaws\.com(?:\.cn)?"
_subscribe = re.compile(HOST + r"/\?Action=ConfirmSubscription&[!-~]{1,2000}").fullmatch


class Envelope(msgspec.Struct, frozen=True, rename="pascal"):
    type: str
    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    signature: str = ""
    signature_version: str = "1"
    signing_cert_url: str = msgspec.field(name="SigningCertURL", default="")
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = msgspec.field(name="SubscribeURL", default=None)

    def signed_text(self) -> bytes:
        """What is signed: names and values, a line each."""
        names = _SIGNED_NOTIFICATION if self.type == "Notification" else _SIGNED_SUBSCRIPTION
        values = dict(
            zip(self.__struct_encode_fields__, msgspec.structs.astuple(self), strict=True)
        )
        lines = [f"{name}\n{values[name]}\n" for name in names if values[name] is not None]
        return "".join(lines).encode()


class Recipient(msgspec.Struct, frozen=True, rename="camel"):
    """Of a bounce the fields of its report (RFC 3464)."""

    email_address: object = None
    status: object = None
    diagnostic_code: object = None


class Bounce(msgspec.Struct, frozen=True, rename="camel"):
    bounce_type: str = ""
    bounce_sub_type: object = None
    bounced_recipients: list[Recipient] = []
    timestamp: object = None


class Complaint(msgspec.Struct, frozen=True, rename="camel"):
    complaint_sub_type: str | None = None
    complaint_feedback_type: str | None = None
    complained_recipients: list[Recipient] = []
    feedback_id: object = None
    timestamp: object = None


class Event(msgspec.Struct, frozen=True, rename="camel"):
    """`eventType` of event publishing, `notificationType` of an identity's feedback."""

    mail: object = None
    event_type: str | None = None
    notification_type: str | None = None
    bounce: Bounce | None = None
    complaint: Complaint | None = None
    delivery: object = None
    open: object = None
    click: object = None
    reject: object = None
    subscription: object = None


_ENVELOPE = msgspec.json.Decoder(Envelope)
_EVENT = msgspec.json.Decoder(Event)


def tags(ref: str) -> tuple[tuple[str, str], ...]:
    """The header whose content comes back in events."""
    return (("X-SES-MESSAGE-TAGS", f"kaskad={ref.replace('.', '_')}"),)


class SesEvents:
    channel: Channel = "email"
    callback_bytes_max = CALLBACK_BYTES_MAX

    def receipts(self, body: bytes, content_type: str) -> Receipts:  # noqa: ARG002 - the port's
        envelope = envelope_of(body)
        if envelope.type == "SubscriptionConfirmation":
            url = envelope.subscribe_url or ""
            if _subscribe(url) is None:
                raise ValueError("The subscription's address is not Amazon's.")
            return Receipts([], confirm_url=url)
        if envelope.type != "Notification":
            return Receipts([])
        return reading.each([msgspec.Raw(envelope.message.encode())], _said)


def envelope_of(body: bytes) -> Envelope:
    """Raises ValueError with a sentence."""
    try:
        return _ENVELOPE.decode(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The body is no envelope of SNS: {error}") from error


def _said(item: msgspec.Raw) -> Said:
    event = json_text.decode(_EVENT, item)
    kind = event.event_type or event.notification_type or ""
    if kind == "Complaint":
        told = event.complaint or Complaint()
        at_ms = reading.moment(told.timestamp)
        if told.complaint_sub_type == SUPPRESSED:
            ref, why = _ref(event), reasons.PERSON
            return reading.failed(ref, at_ms, SUPPRESSED, why, code=SUPPRESSED, status="rejected")
        if told.complaint_feedback_type == "not-spam":
            return None  # somebody took a mail out of the spam again
        first = told.complained_recipients[0] if told.complained_recipients else Recipient()
        return reading.wish("block", told.feedback_id, first.email_address, at_ms)
    if kind == "Subscription":
        if not _leaves(event.subscription):
            return None
        at_ms = reading.moment(json_text.part(event.subscription, "timestamp"))
        return reading.wish("block", None, _first(json_text.part(event.mail, "destination")), at_ms)
    if kind == "Bounce":
        return _bounce(event)
    if kind in ("Reject", "Rendering Failure"):
        text = json_text.text_of(json_text.part(event.reject, "reason")) or kind
        return reading.failed(
            _ref(event), None, text, reasons.MESSAGE, code=kind, status="rejected"
        )
    status = STATUSES.get(kind)
    if status is None:
        return None
    of_kind = {"Delivery": event.delivery, "Open": event.open, "Click": event.click}
    at = json_text.part(of_kind.get(kind, event.mail), "timestamp")
    return reading.plain(status, _ref(event), reading.moment(at))


def _leaves(subscription: object) -> bool:
    """Whether somebody who changed what is sent to them wants less of it than all; where that
    cannot be read they do."""
    chosen = json_text.part(subscription, "newTopicPreferences")
    if json_text.part(chosen, "unsubscribeAll") is not False:
        return True
    topics = json_text.part(chosen, "topicSubscriptionStatus") or []
    if not isinstance(topics, list):
        return True
    return any(json_text.part(topic, "subscriptionStatus") != "OptIn" for topic in topics)


def _bounce(event: Event) -> Said:
    bounce = event.bounce or Bounce()
    first = bounce.bounced_recipients[0] if bounce.bounced_recipients else Recipient()
    sub_type = json_text.text_of(bounce.bounce_sub_type)
    text = json_text.text_of(first.diagnostic_code) or f"{bounce.bounce_type} {sub_type}"
    enhanced = json_text.text_of(first.status)
    gone = bounce.bounce_type == "Permanent"
    if not gone and not enhanced.startswith("4"):
        enhanced = ""  # a mailbox that is full is called 5.2.2, and much else is for now
    return reading.bounced(_ref(event), reading.moment(bounce.timestamp), enhanced, text, gone=gone)


def _ref(event: Event) -> str:
    told = _first(json_text.part(json_text.part(event.mail, "tags"), "kaskad"))
    return reading.ours(json_text.text_of(told).replace("_", "."))


def _first(values: object) -> object:
    return values[0] if isinstance(values, list) and values else None
