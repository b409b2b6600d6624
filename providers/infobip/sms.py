"""Infobip SMS: POST /sms/3/messages, one message an entry, logs at /sms/3/logs.

The shape of a request is here; answers and reports are Infobip's common ones
(`providers.infobip.adapter`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from providers.contract import Channel, Submission
from providers.infobip.adapter import Infobip, destination, validity
from providers.infobip.wire import Destination, ValidityPeriod, Webhook


class Content(msgspec.Struct, frozen=True):
    text: str


class Options(msgspec.Struct, frozen=True, rename="camel"):
    validity_period: ValidityPeriod


class Webhooks(msgspec.Struct, frozen=True, rename="camel"):
    delivery: Webhook
    callback_data: str


class Message(msgspec.Struct, frozen=True):
    sender: str
    destinations: tuple[Destination, ...]
    content: Content
    options: Options
    webhooks: Webhooks


class RequestOptions(msgspec.Struct, frozen=True, rename="camel"):
    include_sms_count_in_response: bool


class Body(msgspec.Struct, frozen=True):
    messages: list[Message]
    options: RequestOptions


COUNT_PARTS = RequestOptions(include_sms_count_in_response=True)


class InfobipSms(Infobip):
    kind = "infobip-sms"
    channel: Channel = "sms"
    send_path = "/sms/3/messages"
    logs_path = "/sms/3/logs"

    def request_body(self, batch: Sequence[Submission]) -> Body:
        return Body([self._message(submission) for submission in batch], COUNT_PARTS)

    def _message(self, submission: Submission) -> Message:
        return Message(
            submission.sender,
            (destination(submission),),
            Content(submission.text),
            Options(validity(submission.validity_ms)),
            Webhooks(self.webhook, submission.ref),
        )
