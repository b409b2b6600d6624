"""Which providers the simulator is a twin of: the one table to which a new twin is added."""

from __future__ import annotations

from typing import Final

from providers.contract import Channel
from providers.simulator.fcm.twin import Fcm
from providers.simulator.infobip.twin import Infobip
from providers.simulator.mail.smtp import MailService
from providers.simulator.mail.unisender import UniSender
from providers.simulator.smsc.twin import Smsc
from providers.simulator.smsc_ru.twin import SmscRu
from providers.simulator.twilio.twin import Twilio
from providers.simulator.twin import Twin
from providers.simulator.vonage.twin import Vonage
from providers.simulator.webpush.twin import WebPush

_ALL: Final[tuple[Twin, ...]] = (
    Infobip(),
    Fcm(),
    WebPush(),
    MailService(),
    UniSender(),
    Smsc(),
    SmscRu(),
    Twilio(),
    Vonage(),
)
TWINS: Final[dict[str, Twin]] = {twin.catalogue.provider: twin for twin in _ALL}
CHANNELS: Final[tuple[Channel, ...]] = tuple(
    dict.fromkeys(channel for twin in TWINS.values() for channel in twin.channels)
)
