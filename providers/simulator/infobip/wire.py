"""The shapes on the wire: Infobip's requests, answers, reports, errors, field by field.

Requests are strict: an unknown key, a wrong type or a broken limit is a 400, as a real adapter
would learn of its mistake. Fields that change nothing here are kept as raw JSON. Decoding raises
msgspec.ValidationError or DecodeError; `error_body` turns a fault into either of the provider's two
error shapes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct

To = Annotated[str, Meta(max_length=64)]
MessageId = Annotated[str, Meta(max_length=200)]
ViberText = Annotated[str, Meta(min_length=1, max_length=1000)]
Url = Annotated[str, Meta(min_length=1, max_length=1000)]
Reference = Annotated[str, Meta(max_length=255)]


class _Wire(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Base of what is read: camelCase on the wire."""


class Destination(_Wire, frozen=True):
    to: To
    message_id: MessageId = ""
    network_id: int | None = None


class ValidityPeriod(_Wire, frozen=True):
    amount: Annotated[int, Meta(ge=1)]
    time_unit: Literal["SECONDS", "MINUTES", "HOURS"] = "MINUTES"


class Platform(_Wire, frozen=True, omit_defaults=True):
    entity_id: Reference | None = None
    application_id: Reference | None = None


class Delivery(_Wire, frozen=True):
    url: str = ""
    intermediate_report: bool = False
    notify: bool = True
    receive_triggered_failover_reports: bool = False


class Seen(_Wire, frozen=True):
    url: str = ""


class Webhooks(_Wire, frozen=True):
    delivery: Delivery = Delivery()
    content_type: Literal["application/json"] = "application/json"
    callback_data: Annotated[str, Meta(max_length=4000)] = ""
    seen: Seen = Seen()


class Schedule(_Wire, frozen=True):
    bulk_id: Annotated[str, Meta(max_length=100)] = ""
    send_at: Raw = Raw()
    sending_speed_limit: Raw = Raw()


class RequestOptions(_Wire, frozen=True):
    schedule: Schedule = Schedule()
    tracking: Raw = Raw()
    include_sms_count_in_response: bool = False
    conversion_tracking: Raw = Raw()


class ViberButton(_Wire, frozen=True):
    title: Annotated[str, Meta(min_length=1, max_length=30)]
    action: Url


class TextContent(_Wire, frozen=True, tag="TEXT", tag_field="type"):
    text: ViberText
    button: ViberButton | None = None


class ImageContent(_Wire, frozen=True, tag="IMAGE", tag_field="type"):
    media_url: Url
    text: ViberText | None = None
    show_image_in_full_screen: bool = False
    button: ViberButton | None = None

    def __post_init__(self) -> None:
        if self.button is not None and self.text is None:
            raise ValueError("An image with a button needs a text")


class VideoContent(_Wire, frozen=True, tag="VIDEO", tag_field="type"):
    media_url: Url
    media_duration: str
    thumbnail_url: Url
    text: ViberText | None = None
    button: ViberButton | None = None
    button_title: str | None = None


class FileContent(_Wire, frozen=True, tag="FILE", tag_field="type"):
    file_name: str
    media_url: Url


class ListContent(_Wire, frozen=True, tag="LIST", tag_field="type"):
    text: Annotated[str, Meta(min_length=1, max_length=85)]
    options: Annotated[list[Annotated[str, Meta(max_length=50)]], Meta(min_length=2, max_length=5)]


class CarouselContent(_Wire, frozen=True, tag="CAROUSEL", tag_field="type"):
    text: ViberText
    cards: Annotated[list[Raw], Meta(min_length=2, max_length=5)]


class TemplateContent(_Wire, frozen=True, tag="TEMPLATE", tag_field="type"):
    template_id: str
    language: str
    parameters: dict[str, str] = {}


class OtpTemplateContent(_Wire, frozen=True, tag="OTP_TEMPLATE", tag_field="type"):
    id: Annotated[str, Meta(max_length=100)]
    parameters: dict[str, str]
    language: str | None = None


ViberContent = (
    TextContent
    | ImageContent
    | VideoContent
    | FileContent
    | ListContent
    | CarouselContent
    | TemplateContent
    | OtpTemplateContent
)


class ViberOptions(_Wire, frozen=True):
    platform: Platform = Platform()
    validity_period: ValidityPeriod | None = None
    delivery_time_window: Raw = Raw()
    campaign_reference_id: Reference = ""
    sms_failover: Raw = Raw()
    tracking_data: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    label: Literal["PROMOTIONAL", "TRANSACTIONAL"] = "PROMOTIONAL"
    apply_session_rate: bool = False
    to_primary_device_only: bool = False
    activation_check: Raw = Raw()
    regional: Raw = Raw()


class ViberMessage(_Wire, frozen=True):
    sender: Annotated[str, Meta(min_length=1)]
    destinations: Annotated[list[Destination], Meta(min_length=1)]
    content: ViberContent
    options: ViberOptions = ViberOptions()
    webhooks: Webhooks = Webhooks()


class ViberRequest(_Wire, frozen=True):
    messages: Annotated[list[ViberMessage], Meta(min_length=1)]
    options: RequestOptions = RequestOptions()


class SmsLanguage(_Wire, frozen=True):
    language_code: Literal["NONE", "AUTODETECT"] = "NONE"
    single_shift: bool = False
    locking_shift: bool = False


class SmsContent(_Wire, frozen=True):
    """Text or binary. What would change the parts (transliteration, shift tables) is refused."""

    text: str | None = None
    transliteration: Literal["NONE"] = "NONE"
    language: SmsLanguage = SmsLanguage()
    hex: str | None = None
    data_coding: int = 0
    esm_class: int = 0

    def __post_init__(self) -> None:
        if (self.text is None) == (self.hex is None):
            raise ValueError("Either text or hex is required, not both")


class SmsOptions(_Wire, frozen=True):
    platform: Platform = Platform()
    validity_period: ValidityPeriod | None = None
    delivery_time_window: Raw = Raw()
    campaign_reference_id: Reference = ""
    regional: Raw = Raw()
    flash: bool = False


class SmsMessage(_Wire, frozen=True):
    destinations: Annotated[list[Destination], Meta(min_length=1)]
    content: SmsContent
    sender: str = ""
    options: SmsOptions = SmsOptions()
    webhooks: Webhooks = Webhooks()


class SmsRequest(_Wire, frozen=True):
    messages: Annotated[list[SmsMessage], Meta(min_length=1)]
    options: RequestOptions = RequestOptions()


class AnswerDetails(Struct, rename="camel", gc=False):
    message_count: int


class AnswerItem(Struct, rename="camel", omit_defaults=True, gc=False):
    message_id: str
    status: Raw
    destination: str
    details: AnswerDetails | None = None


class Answer(Struct, rename="camel"):
    bulk_id: str
    messages: list[AnswerItem]


class DeliveryReport(Struct, rename="camel", omit_defaults=True, gc=False):
    """One delivery report, pushed or pulled: `to` in reports."""

    bulk_id: str
    price: Raw
    status: Raw
    error: Raw
    message_id: str
    to: str
    sender: str
    sent_at: str
    done_at: str
    message_count: int
    mcc_mnc: str | None = None
    callback_data: str | None = None
    platform: Platform | None = None
    campaign_reference_id: str | None = None


class LogItem(Struct, rename="camel", omit_defaults=True, gc=False):
    """One log line: `destination` where a report has `to`."""

    sender: str
    destination: str
    bulk_id: str
    message_id: str
    sent_at: str
    message_count: int
    price: Raw
    status: Raw
    error: Raw
    done_at: str | None = None
    platform: Platform | None = None
    campaign_reference_id: str | None = None
    mcc_mnc: str | None = None


class SeenReport(Struct, rename={"from_": "from"}, omit_defaults=True, gc=False):
    """One seen report: it has neither bulkId nor callbackData."""

    messageId: str  # noqa: N815 - one rename rule a struct, and `from` needs it
    from_: str
    to: str
    sentAt: str  # noqa: N815
    seenAt: str  # noqa: N815
    applicationId: str | None = None  # noqa: N815
    entityId: str | None = None  # noqa: N815
    campaignReferenceId: str | None = None  # noqa: N815


class SmsReply(Struct, rename={"from_": "from"}, gc=False):
    """One inbound SMS."""

    messageId: str  # noqa: N815 - as SeenReport's
    from_: str
    to: str
    text: str
    cleanText: str  # noqa: N815
    keyword: str
    receivedAt: str  # noqa: N815
    smsCount: int = 1  # noqa: N815


class ViberReply(Struct, rename="camel", gc=False):
    """One inbound Viber message."""

    sender: str
    to: str
    received_at: str
    message_id: str
    message: dict[str, str]
    integration_type: str = "VIBER"


VIBER_REQUEST: Final = msgspec.json.Decoder(ViberRequest)
SMS_REQUEST: Final = msgspec.json.Decoder(SmsRequest)
ENCODER: Final = msgspec.json.Encoder()

_SERVICE_IDS: Final = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "TOO_MANY_REQUESTS",
}
_ACTIONS: Final = {
    400: "Check the request against the API reference.",
    401: "Check the API key in the Authorization header.",
    429: "Wait and send again.",
}
_PATH: Final = re.compile(r" - at `\$\.?([^`]*)`$")


def violation(fault: msgspec.MsgspecError) -> tuple[str, str]:
    """The property and the sentence of a decoding fault; no property: the JSON is malformed."""
    text = str(fault)
    found = _PATH.search(text)
    return (found.group(1) if found else ""), _PATH.sub("", text)


def error_body(
    shape: Literal["api", "request"],
    status: int,
    description: str,
    violations: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The body of an HTTP error in the shape of the current endpoints or of the older ones."""
    if shape == "api":
        return msgspec.json.encode(
            {
                "errorCode": f"E{status}",
                "description": description,
                "action": _ACTIONS.get(status, "Try again later."),
                "violations": [
                    {"property": name, "violation": sentence} for name, sentence in violations
                ],
                "resources": [{"name": "API reference", "url": "https://www.infobip.com/docs/api"}],
            }
        )
    exception: dict[str, object] = {
        "messageId": _SERVICE_IDS.get(status, "GENERAL_ERROR"),
        "text": description,
    }
    if violations:
        exception["validationErrors"] = {name or "body": [text] for name, text in violations}
    return msgspec.json.encode({"requestError": {"serviceException": exception}})
