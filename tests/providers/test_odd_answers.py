"""One field that is written oddly costs no answer to a send."""

from __future__ import annotations

import pytest

from providers.contract import About, BadRequest, FcmAddress, Outcome, Refused, Submitted
from providers.fcm import wire
from providers.http.adapter import Adapter, Reply
from providers.infobip.sms import InfobipSms
from providers.smsc_ru.adapter import SmscRu
from providers.twilio.adapter import TwilioSms
from providers.vonage.adapter import VonageSms
from tests.worlds.provider_examples import config, submission
from tests.worlds.push_examples import FCM, to_devices

DEVICE = FcmAddress("token-1")
SENT = submission("m-0.1", to="+79161234567")
TWILIO = TwilioSms(config("twilio-sms", base_url="https://api.example/Accounts/AC1"))
SMSC, VONAGE = SmscRu(config("smsc-ru")), VonageSms(config("vonage-sms"))
INFOBIP = InfobipSms(config("infobip-sms"))
PENDING = b'"messageId":"m-0.1","status":{"groupId":1,"id":26}'


def outcome(adapter: Adapter, status: int, body: bytes) -> Outcome:
    (told,) = adapter.outcomes([SENT], Reply(status, {}, body))
    return told


@pytest.mark.parametrize(
    ("adapter", "body", "own_id"),
    [
        (TWILIO, b'{"sid":"SM1","num_segments":1.0}', "SM1"),
        (TWILIO, b'{"sid":"SM1","message":{}}', "SM1"),
        (TWILIO, b'{"sid":"SM1","body":"\xcf\xf0\xe8"}', "SM1"),
        (SMSC, b'{"id":7,"cnt":[1]}', "7"),
        (SMSC, b'{"id":7,"cnt":1.5,"error":[]}', "7"),
        (SMSC, b'{"id":7,"error":"\xcd\xe5\xf2"}', "7"),
        (VONAGE, b'{"message_uuid":"u-1","detail":null}', "u-1"),
        (VONAGE, b'{"message_uuid":"u-1","title":null,"type":[]}', "u-1"),
        (INFOBIP, b'{"messages":[{%b,"details":[]}]}' % PENDING, None),
        (INFOBIP, b'{"messages":[{%b,"destination":[]}]}' % PENDING, None),
        (INFOBIP, b'{"messages":[{%b,"details":{"messageCount":"2"}}]}' % PENDING, None),
    ],
)
def test_what_was_taken_is_taken(adapter: Adapter, body: bytes, own_id: str | None) -> None:
    taken = outcome(adapter, 201, body)
    assert isinstance(taken, Submitted)
    assert taken.provider_id == own_id


@pytest.mark.parametrize(
    ("adapter", "status", "body", "code"),
    [
        (TWILIO, 400, b'{"code":"21211","message":null}', "21211"),
        (TWILIO, 400, b'{"code":21211,"message":["To"]}', "21211"),
        (SMSC, 200, b'{"error":null,"error_code":7,"cnt":{}}', "7"),
        (SMSC, 200, b'{"error":{},"error_code":7}', "7"),
        (VONAGE, 422, b'{"type":"https://x#1120","title":"Invalid","detail":null}', "1120"),
    ],
)
def test_what_was_refused_is_refused(adapter: Adapter, status: int, body: bytes, code: str) -> None:
    refused = outcome(adapter, status, body)
    assert isinstance(refused, Refused)
    assert refused.fault.code == code


@pytest.mark.parametrize("adapter", [TWILIO, SMSC, VONAGE, INFOBIP])
@pytest.mark.parametrize(
    ("status", "body", "about"),
    [
        (400, b"<html>The plain HTTP request was sent to HTTPS port</html>", "account"),
        (422, b"", "account"),
        (413, b"<html>Request Entity Too Large</html>", "message"),
    ],
)
def test_a_page_of_somebody_on_the_way_is_about_no_message(
    adapter: Adapter, status: int, body: bytes, about: About
) -> None:
    with pytest.raises(BadRequest) as caught:
        adapter.outcomes([SENT], Reply(status, {}, body))
    assert (caught.value.code, caught.value.about) == (f"http_{status}", about)


@pytest.mark.parametrize(
    "more",
    [b'"message":null', b'"message":"","details":[null,{"errorCode":"UNREGISTERED"},{"@type":1}]'],
)
def test_fcm_says_that_a_device_is_gone_whatever_else_it_says(more: bytes) -> None:
    body = b'{"error":{"status":"UNREGISTERED",%b}}' % more
    refused = wire.outcome(to_devices(FCM, 1), DEVICE, Reply(404, {}, body))
    assert isinstance(refused, Refused)
    assert refused.gone == (DEVICE,)
