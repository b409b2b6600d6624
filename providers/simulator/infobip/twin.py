"""Infobip as a twin: /viber/2 and /sms/3, their requests read and their answers written."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from providers.contract import Channel
from providers.simulator.book import Entry, Hooks
from providers.simulator.infobip import reports
from providers.simulator.infobip.catalogue import (
    BAD_DESTINATION,
    CATALOGUE,
    MISSING_TO,
    TOO_LONG,
)
from providers.simulator.infobip.reports import Echo
from providers.simulator.infobip.wire import (
    ENCODER,
    SMS_REQUEST,
    VIBER_REQUEST,
    Answer,
    AnswerDetails,
    AnswerItem,
    CarouselContent,
    FileContent,
    ListContent,
    OtpTemplateContent,
    SmsMessage,
    SmsRequest,
    TemplateContent,
    ValidityPeriod,
    ViberContent,
    ViberMessage,
    ViberRequest,
    error_body,
    violation,
)
from providers.simulator.links import link_in
from providers.simulator.replies import Reply
from providers.simulator.segments import octet_parts, text_parts
from providers.simulator.twin import (
    Destination,
    ErrorShape,
    Listing,
    Order,
    Pull,
    Sending,
    Taken,
    Unreadable,
    Violations,
)
from providers.simulator.vocabulary import Status

PARTS_MAX: Final = 25  # more is REJECTED_MESSAGE_TOO_LONG
TO_DIGITS_MIN: Final = 5
TO_DIGITS_MAX: Final = 15  # E.164
PULL_LIMIT: Final = 50
PULL_LIMIT_MAX: Final = 1_000
VALIDITY_MS_MAX: Final = 48 * 3_600_000  # longer ones are shortened silently

_SENDS: Final[dict[str, Channel]] = {"/viber/2/messages": "viber", "/sms/3/messages": "sms"}
_UNREADABLE: Final = "The request cannot be read."
_UNIT_MS: Final = {"SECONDS": 1_000, "MINUTES": 60_000, "HOURS": 3_600_000}


class Infobip:
    channels: tuple[Channel, ...] = ("viber", "sms")
    catalogue = CATALOGUE
    media_type = "application/json"
    pulls: Mapping[str, tuple[Channel, Listing]] = {
        "/viber/2/logs": ("viber", "logs"),
        "/viber/2/reports": ("viber", "reports"),
        "/sms/3/logs": ("sms", "logs"),
        "/sms/3/reports": ("sms", "reports"),
    }

    def is_authorised(self, headers: Mapping[bytes, bytes], api_key: str) -> bool:
        given = headers.get(b"authorization", b"")
        return hmac.compare_digest(given, f"App {api_key}".encode())

    def sends_at(self, path: str) -> Channel | None:
        return _SENDS.get(path)

    def aside(self, path: str, body: bytes, api_key: str) -> Reply | None:  # noqa: ARG002
        return None

    def read_send(self, channel: Channel, body: bytes, path: str = "") -> Sending:  # noqa: ARG002
        request: ViberRequest | SmsRequest
        try:
            request = (VIBER_REQUEST if channel == "viber" else SMS_REQUEST).decode(body)
        except msgspec.MsgspecError as fault:
            raise Unreadable(_UNREADABLE, [violation(fault)]) from None
        return Sending(
            bulk_id=request.options.schedule.bulk_id,
            orders=[_order(message) for message in request.messages],
            counted=request.options.include_sms_count_in_response,
        )

    def read_pull(self, query: Mapping[str, list[str]]) -> Pull:
        limit = query.get("limit", [str(PULL_LIMIT)])[-1]
        if not limit.isdecimal() or not 1 <= int(limit) <= PULL_LIMIT_MAX:
            raise Unreadable(_UNREADABLE, [("limit", f"must be 1 to {PULL_LIMIT_MAX}")])
        return Pull(_list(query, "messageId"), _list(query, "bulkId"), int(limit))

    def refusal(self, order: Order, to: str) -> Status | None:
        if not to:
            return MISSING_TO
        if not (to.isascii() and to.isdecimal() and TO_DIGITS_MIN <= len(to) <= TO_DIGITS_MAX):
            return BAD_DESTINATION
        return TOO_LONG if order.parts > PARTS_MAX else None

    def answer(self, bulk_id: str, counted: bool, taken: Sequence[Taken]) -> Reply:
        items = [
            AnswerItem(
                each.message_id,
                each.status.json,
                each.to,
                AnswerDetails(each.order.parts)
                if counted and each.accepted and each.order.channel == "sms"
                else None,
            )
            for each in taken
        ]
        return Reply(200, ENCODER.encode(Answer(bulk_id, items)))

    def pulled(self, listing: Listing, entries: Sequence[Entry], *, price_when_free: bool) -> bytes:
        write = reports.log_item if listing == "logs" else reports.pulled_report
        return ENCODER.encode(
            {"results": [write(entry, price_when_free=price_when_free) for entry in entries]}
        )

    def error(
        self, shape: ErrorShape, status: int, sentence: str, violations: Violations = ()
    ) -> bytes:
        return error_body(shape, status, sentence, violations)

    def final_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return reports.final_report(entry, price_when_free=price_when_free)

    def revived_report(self, entry: Entry, *, price_when_free: bool) -> bytes:
        return reports.revived_report(entry, price_when_free=price_when_free)

    def intermediate_report(self, entry: Entry, now_ms: int) -> bytes:
        return reports.intermediate_report(entry, now_ms)

    def seen_report(self, entry: Entry) -> bytes:
        return reports.seen_report(entry)

    def reply(self, entry: Entry, text: str, now_ms: int) -> bytes:
        return reports.reply(entry, text, now_ms)

    def complaint(self, entry: Entry, now_ms: int) -> bytes:  # noqa: ARG002 - the port's
        return b""

    def post(self, reports: Sequence[bytes], key: str = "") -> bytes:  # noqa: ARG002 - unsigned
        return b'{"results":[' + b",".join(reports) + b"]}"


def _order(message: ViberMessage | SmsMessage) -> Order:
    webhooks, options = message.webhooks, message.options
    delivery = webhooks.delivery
    channel: Channel = "sms"
    category, parts, link = "", 1, ""
    if isinstance(message, ViberMessage):
        channel = "viber"
        label = message.options.label
        category = "transactional" if label == "TRANSACTIONAL" else "marketing"
        link = _link(message.content)
    elif message.content.text is not None:
        parts, link = text_parts(message.content.text), link_in(message.content.text)
    else:
        parts = octet_parts(len((message.content.hex or "").split()))
    return Order(
        channel=channel,
        sender=message.sender,
        parts=parts,
        category=category,
        validity_ms=_validity(options.validity_period),
        hooks=Hooks(
            delivery_url=delivery.url if delivery.notify else "",
            seen_url=webhooks.seen.url,
            echo=Echo(
                webhooks.callback_data,
                options.campaign_reference_id,
                options.platform.entity_id or "",
                options.platform.application_id or "",
            ),
        ),
        intermediate=delivery.intermediate_report,
        destinations=[Destination(each.message_id, each.to) for each in message.destinations],
        link=link,
    )


def _link(content: ViberContent) -> str:
    """Its button's, or the first of its text."""
    if isinstance(content, FileContent | TemplateContent | OtpTemplateContent):
        return ""
    if isinstance(content, ListContent | CarouselContent) or content.button is None:
        return link_in(content.text or "")
    return content.button.action


def _validity(period: ValidityPeriod | None) -> int:
    if period is None:
        return VALIDITY_MS_MAX
    return min(period.amount * _UNIT_MS[period.time_unit], VALIDITY_MS_MAX)


def _list(query: Mapping[str, list[str]], name: str) -> list[str]:
    """Several values may be repeated parameters or one with commas."""
    return [part for value in query.get(name, ()) for part in value.split(",") if part]
