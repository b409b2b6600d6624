"""From a submission to the PDUs that say it, and from what came to receipts and replies. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import structlog

from providers.contract import Fault, PersonReply, Receipt, Submission
from providers.smpp import pdu, receipts, texts
from providers.smpp.session import Arrived
from providers.smpp.settings import SmppConfig

INTERNATIONAL: Final = 1
ISDN: Final = 1
ALPHANUMERIC: Final = 5
ADDRESS_CHARS_MAX: Final = 20
WITH_RECEIPT: Final = 0x01  # of registered_delivery: also of a failure
VALIDITY_S_MIN, VALIDITY_S_MAX = 60, 30 * 86_400
REPEATED_S: Final = 600  # what comes again within so long is the same reply

NOT_ENCODABLE: Final = Fault("encoding", "text_not_encodable", True)
ADDRESS_REFUSED: Final = Fault("address", "address_too_long", True)

_log = structlog.get_logger("dispatch")


class Written(NamedTuple):
    pdus: list[pdu.Short]
    countable: bool


def write(sent: Submission, config: SmppConfig, reference: int) -> Written | Fault:
    """The PDUs of a submission, or why there are none."""
    to, sender = sent.to.removeprefix("+"), sent.sender.removeprefix("+")
    for address in (to, sender):
        if len(address) > ADDRESS_CHARS_MAX or not address.isascii() or "\0" in address:
            return ADDRESS_REFUSED
    encoded = texts.encode(sent.text, config.encodings, config.long, reference)
    if encoded is None:
        return NOT_ENCODABLE
    ton, npi = (INTERNATIONAL, ISDN) if sender.isdecimal() else (ALPHANUMERIC, 0)
    pdus = [
        pdu.Short(
            source_ton=ton if config.source_ton is None else config.source_ton,
            source_npi=npi if config.source_npi is None else config.source_npi,
            source=sender,
            destination_ton=config.dest_ton,
            destination_npi=config.dest_npi,
            destination=to,
            esm_class=part.esm_class,
            validity_period=relative_time(sent.validity_ms),
            registered_delivery=WITH_RECEIPT,
            data_coding=encoded.data_coding,
            short_message=part.short_message,
            tlvs=part.tlvs,
        )
        for part in encoded.parts
    ]
    return Written(pdus, encoded.countable)


def relative_time(ms: int) -> str:
    """How long from now, in days, hours, minutes and seconds."""
    seconds = min(max(ms // 1000, VALIDITY_S_MIN), VALIDITY_S_MAX)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"0000{days:02}{hours:02}{minutes:02}{seconds:02}000R"


def read(
    arrived: Sequence[Arrived], config: SmppConfig, now_s: float
) -> tuple[list[Receipt], list[PersonReply]]:
    """What came, each in its kind. What says nothing is logged, and answered like the rest: the
    provider would only send it again."""
    told: list[Receipt] = []
    replies: list[PersonReply] = []
    for each in arrived:
        message = each.message
        if receipts.is_receipt(message):
            receipt = receipts.read(message, config.id_format_resp, config.id_format_dlr)
            if isinstance(receipt, Receipt):
                told.append(receipt)
            else:
                _log.warning("receipt_unreadable", provider=config.name, reason=receipt.sentence)
        elif message.source.removeprefix("+").isdecimal():
            replies.append(_reply(message, config, now_s))
        else:
            _log.warning("reply_unreadable", provider=config.name, reason="It has no number.")
    return told, replies


def _reply(message: pdu.Short | pdu.Data, config: SmppConfig, now_s: float) -> PersonReply:
    """What a person wrote; one part of a long text is one reply. SMPP has no ids for these."""
    text = texts.read(message, packed="gsm7-packed" in config.encodings).text
    told = (message.source, message.destination, message.esm_class, int(now_s // REPEATED_S))
    digest = hashlib.sha256(repr((*told, message.content)).encode()).hexdigest()
    return PersonReply(
        digest[:32],
        sender=message.source.removeprefix("+"),
        to=message.destination,
        text=text,
        at_ms=round(now_s * 1000),
    )
