"""Infobip Viber Business Messages: POST /viber/2/messages, logs at /viber/2/logs.

The shape of a request is here; answers and reports are Infobip's common ones
(`providers.infobip.adapter`). Seen reports come to the same address as delivery reports. Infobip's
own SMS failover is never asked for: the cascade is ours, and a second one would bill twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from providers.contract import Channel, LinkButton, Submission
from providers.infobip.adapter import Infobip, destination, validity
from providers.infobip.wire import Destination, ValidityPeriod, Webhook

Label = Literal["PROMOTIONAL", "TRANSACTIONAL"]


class ActionButton(msgspec.Struct, frozen=True):
    title: str
    action: str


class TextContent(
    msgspec.Struct, frozen=True, rename="camel", tag="TEXT", tag_field="type", omit_defaults=True
):
    text: str
    button: ActionButton | None = None


class ImageContent(
    msgspec.Struct, frozen=True, rename="camel", tag="IMAGE", tag_field="type", omit_defaults=True
):
    media_url: str
    text: str
    button: ActionButton | None = None


class Options(msgspec.Struct, frozen=True, rename="camel"):
    validity_period: ValidityPeriod
    label: Label


class Webhooks(msgspec.Struct, frozen=True, rename="camel"):
    delivery: Webhook
    seen: Webhook
    callback_data: str


class Message(msgspec.Struct, frozen=True):
    sender: str
    destinations: tuple[Destination, ...]
    content: TextContent | ImageContent
    options: Options
    webhooks: Webhooks


class Body(msgspec.Struct, frozen=True):
    messages: list[Message]


class InfobipViber(Infobip):
    kind = "infobip-viber"
    channel: Channel = "viber"
    send_path = "/viber/2/messages"
    logs_path = "/viber/2/logs"

    def request_body(self, batch: Sequence[Submission]) -> Body:
        return Body([self._message(submission) for submission in batch])

    def _message(self, submission: Submission) -> Message:
        # The label is a declaration of purpose; Infobip bills a marketing text sent as
        # transactional all the same.
        label: Label = "PROMOTIONAL" if submission.category == "marketing" else "TRANSACTIONAL"
        return Message(
            submission.sender,
            (destination(submission),),
            _content(submission),
            Options(validity(submission.validity_ms), label),
            Webhooks(self.webhook, self.webhook, submission.ref),
        )


def _content(submission: Submission) -> TextContent | ImageContent:
    button = _button(submission.button)
    if submission.image_url is None:
        return TextContent(submission.text, button)
    return ImageContent(submission.image_url, submission.text, button)


def _button(button: LinkButton | None) -> ActionButton | None:
    return None if button is None else ActionButton(button.caption, button.url)
