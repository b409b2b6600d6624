"""Which kinds of provider there are: the one table to which a new one is added.

A kind says which keys its table in the configuration has, what the core must know of it, and how
it is made. Ingress reads callbacks through it without ever importing trio.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from providers.contract import Channel, Provider
from providers.fcm.settings import FcmSettings
from providers.http.adapter import Adapter, CallbackReader, HttpConfig
from providers.http.settings import HttpSettings, http_config
from providers.infobip.sms import InfobipSms
from providers.infobip.viber import InfobipViber
from providers.settings import Configured, ProviderSettings
from providers.smpp.settings import SmppSettings, smpp_config
from providers.smsc_ru.adapter import SmscRu
from providers.smtp.settings import SmtpSettings, smtp_config, smtp_events
from providers.twilio.adapter import TwilioSms
from providers.twilio.settings import TwilioSettings
from providers.unisender_go.adapter import UniSenderGo
from providers.unisender_go.settings import UniSenderGoSettings
from providers.vonage.adapter import VonageSms, VonageViber
from providers.vonage.settings import VonageSettings
from providers.webpush.settings import WebPushSettings


class ProviderKind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of provider.

    `connect` makes the port that dispatch uses; it is called under trio and may raise ValueError
    with a sentence. `reconfigure` tells it of another callback proof while it runs; None: it needs
    not know. `adapter` is that of a kind which is spoken to over HTTP; `callbacks` reads what a
    kind calls back with, if it is configured to. `devices` is the one kind of devices that it
    reaches, where its channel has several. `answers_late`: it may tell, of what it gave no answer
    to, that it took it.
    """

    settings: type[ProviderSettings]
    channel: Channel
    connect: Callable[[Configured], Provider]
    can_look_up: bool = False
    answers_late: bool = False
    reconfigure: Callable[[Provider, Configured], None] | None = None
    adapter: Callable[[HttpConfig], Adapter] | None = None
    devices: str = ""
    callbacks: Callable[[Configured], CallbackReader | None] | None = None


def http_kind(
    adapter: Callable[[HttpConfig], Adapter],
    channel: Channel,
    *,
    can_look_up: bool = False,
    settings: type[HttpSettings] = HttpSettings,
) -> ProviderKind:
    """A kind that is spoken to over HTTP: its adapter is all there is to say."""

    def connect(configured: Configured) -> Provider:
        from providers.http.client import HttpProvider  # and with it trio

        config = http_config(configured)
        return HttpProvider(config, adapter(config))

    def reconfigure(provider: Provider, configured: Configured) -> None:
        from providers.http.client import HttpProvider  # and with it trio

        assert isinstance(provider, HttpProvider), "a kind is given what it connected"
        config = http_config(configured)
        provider.reconfigure(config, adapter(config))

    return ProviderKind(
        settings=settings,
        channel=channel,
        can_look_up=can_look_up,
        connect=connect,
        reconfigure=reconfigure,
        adapter=adapter,
        callbacks=lambda configured: adapter(http_config(configured)),
    )


def _connect_smpp(configured: Configured) -> Provider:
    from providers.smpp.provider import SmppProvider  # and with it trio

    return SmppProvider(smpp_config(configured))


def _connect_smtp(configured: Configured) -> Provider:
    from providers.smtp.provider import SmtpProvider  # and with it trio

    return SmtpProvider(smtp_config(configured))


def _connect_fcm(configured: Configured) -> Provider:
    from providers.fcm.provider import FcmProvider  # and with it trio

    return FcmProvider(configured)


def _connect_web_push(configured: Configured) -> Provider:
    from providers.webpush.provider import WebPushProvider  # and with it trio

    return WebPushProvider(configured)


def _vonage(adapter: Callable[[HttpConfig], Adapter], channel: Channel) -> ProviderKind:
    def connect(configured: Configured) -> Provider:
        from providers.vonage.provider import VonageProvider  # and with it trio

        return VonageProvider(configured, adapter(http_config(configured)))

    kind = http_kind(adapter, channel, settings=VonageSettings)
    return replace(kind, connect=connect)


KINDS: dict[str, ProviderKind] = {
    each.kind: http_kind(each, each.channel, can_look_up=each.can_look_up)
    for each in (InfobipSms, InfobipViber, SmscRu)
} | {
    "smpp": ProviderKind(
        settings=SmppSettings,
        channel="sms",
        connect=_connect_smpp,
        answers_late=True,
    ),
    "fcm": ProviderKind(
        settings=FcmSettings,
        channel="push",
        connect=_connect_fcm,
        devices="fcm",
    ),
    "smtp": ProviderKind(
        settings=SmtpSettings,
        channel="email",
        connect=_connect_smtp,
        callbacks=smtp_events,
    ),
    "twilio-sms": http_kind(TwilioSms, "sms", settings=TwilioSettings),
    "unisender-go": http_kind(UniSenderGo, "email", settings=UniSenderGoSettings),
    "vonage-sms": _vonage(VonageSms, "sms"),
    "vonage-viber": _vonage(VonageViber, "viber"),
    "webpush": ProviderKind(
        settings=WebPushSettings,
        channel="push",
        connect=_connect_web_push,
        devices="webpush",
    ),
}
