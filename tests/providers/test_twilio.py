"""What is Twilio's own: its form, its table of codes, its signature."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlencode

import pytest

from gateway.settings import bootstrap
from gateway.settings.file import parse
from providers.contract import About, PersonReply, Refused
from providers.http.callback_proofs import CallbackAuth
from providers.http.settings import http_config
from providers.twilio.adapter import TwilioSms
from providers.twilio.settings import TwilioSettings
from providers.twilio.signature import HEADER, TwilioSignature, addresses_of, signed
from tests.worlds.provider_examples import CALLBACK_URL, config, reply, submission

SID = "AC" + "0123456789abcdef" * 2
BASE = f"https://api.twilio.com/2010-04-01/Accounts/{SID}"
ADAPTER = TwilioSms(config("twilio-sms", base_url=BASE))
SENT = submission("m-0.1", to="+79161234567")


def test_a_request_is_a_form_by_the_account() -> None:
    request = ADAPTER.submit([SENT])
    assert request.path == "/Messages.json"
    scheme, _, given = dict(request.headers)["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(given)) == ("Basic", f"{SID}:k3y".encode())
    assert dict(parse_qsl(request.body.decode())) == {
        "To": "+79161234567",
        "From": "Shop",
        "Body": SENT.text,
        "StatusCallback": CALLBACK_URL,
        "ValidityPeriod": "900",
    }
    service = ADAPTER.submit([submission("m-0.1", sender="MG" + "0" * 32, validity_ms=10**12)])
    form = dict(parse_qsl(service.body.decode()))
    assert (form["MessagingServiceSid"], form["ValidityPeriod"]) == ("MG" + "0" * 32, "36000")
    assert "From" not in form


@pytest.mark.parametrize(
    ("code", "about", "permanent", "unreachable"),
    [
        (21211, "person", True, True),
        (21610, "person", True, False),
        (21614, "person", True, True),
        (21617, "message", True, False),
        (21408, "account", True, False),
        (21606, "account", True, False),
        (21611, "person", False, False),
        (99999, "account", True, False),
    ],
)
def test_a_refused_request_speaks_of_somebody(
    code: int, about: About, *, permanent: bool, unreachable: bool
) -> None:
    body = f'{{"code": {code}, "message": "so", "status": 400}}'.encode()
    (refused,) = ADAPTER.outcomes([SENT], reply(400, body))
    assert isinstance(refused, Refused)
    assert (refused.about, refused.unreachable) == (about, unreachable)
    assert (refused.fault.code, refused.fault.permanent) == (str(code), permanent)
    assert refused.opted_out == (code == 21610)


@pytest.mark.parametrize(
    ("form", "status", "about", "unreachable"),
    [
        ({"MessageStatus": "undelivered", "ErrorCode": "30005"}, "undelivered", "person", True),
        ({"MessageStatus": "undelivered", "ErrorCode": "30006"}, "undelivered", "person", True),
        ({"MessageStatus": "undelivered", "ErrorCode": "30007"}, "undelivered", "message", False),
        ({"MessageStatus": "failed", "ErrorCode": "30034"}, "rejected", "account", False),
        ({"MessageStatus": "failed", "ErrorCode": "30036"}, "expired", "person", False),
        ({"MessageStatus": "failed"}, "rejected", "person", False),
        ({"MessageStatus": "canceled"}, "rejected", "person", False),
    ],
)
def test_a_failed_message_speaks_of_somebody(
    form: dict[str, str], status: str, about: About, *, unreachable: bool
) -> None:
    body = urlencode({"MessageSid": "SM1", "To": "+79161234567", **form}).encode()
    (found,) = ADAPTER.receipts(body, "").receipts
    assert (found.status, found.about, found.unreachable) == (status, about, unreachable)
    assert (found.provider_id, found.to) == ("SM1", "79161234567")
    assert found.fault is not None


def test_an_unknown_status_is_told_and_a_text_is_a_reply() -> None:
    read = ADAPTER.receipts(b"MessageSid=SM1&MessageStatus=odd", "")
    assert "unknown status odd" in read.faults[0]
    form = {"MessageSid": "SM2", "SmsStatus": "received", "From": "+79161234567", "To": "+15550100"}
    read = ADAPTER.receipts(urlencode(form | {"Body": "STOP"}).encode(), "")
    assert read.replies == [PersonReply("SM2", "79161234567", "15550100", "STOP")]
    with pytest.raises(ValueError, match="report"):
        ADAPTER.receipts(urlencode(form | {"From": "Shop"}).encode(), "")


@pytest.mark.parametrize("told", [{"Body": "STOP", "NumMedia": "0"}, {"NumMedia": "1"}])
def test_a_reply_is_known_without_a_status_as_twilio_documents_it(told: dict[str, str]) -> None:
    form = {"MessageSid": "SM2", "From": "+79161234567", "To": "+15550100"} | told
    text = PersonReply("SM2", "79161234567", "15550100", told.get("Body", ""))
    assert ADAPTER.receipts(urlencode(form).encode(), "").replies == [text]
    with pytest.raises(ValueError, match="no status"):
        ADAPTER.receipts(urlencode({"MessageSid": "SM2", "From": "+79161234567"}).encode(), "")


@pytest.mark.parametrize(("told", "kind"), [("STOP", "block"), ("START", "unblock")])
def test_a_word_of_twilios_list_is_a_wish_beside_its_text(
    told: str, kind: Literal["block", "unblock"]
) -> None:
    form = {"MessageSid": "SM2", "SmsStatus": "received", "From": "+79161234567", "To": "+15550100"}
    said = form | {"Body": "basta", "OptOutType": told}
    text, wish = ADAPTER.receipts(urlencode(said).encode(), "").replies
    assert text == PersonReply("SM2", "79161234567", "15550100", "basta")
    assert wish == PersonReply(f"SM2-{kind}", "79161234567", "15550100", kind=kind)
    helped = urlencode(said | {"OptOutType": "HELP"}).encode()
    assert ADAPTER.receipts(helped, "").replies == [text]


# --- the signature


def test_the_example_of_twilios_documentation_holds() -> None:
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    body = urlencode(
        {
            "CallSid": "CA1234567890ABCDE",
            "Caller": "+14158675309",
            "Digits": "1234",
            "From": "+14158675309",
            "To": "+18005551212",
        }
    ).encode()
    signature = TwilioSignature("12345", (url,))
    assert signature.holds({HEADER: "RSOYDt4T1cUTdK1PDd93/VVr8B8="}, body, b"")
    assert not signature.holds({HEADER: "RSOYDt4T1cUTdK1PDd93/VVr8B8="}, body + b"&a=b", b"")
    assert not TwilioSignature("other", (url,)).holds(
        {HEADER: "RSOYDt4T1cUTdK1PDd93/VVr8B8="}, body, b""
    )
    for odd in ("", "RSOY", "%%%", "ключ"):
        assert not signature.holds({HEADER: odd}, body, b"")
    assert not signature.holds({}, b"\xff", b"")
    assert signature.certificate_url(body) is None


def test_the_port_of_a_scheme_may_stand_in_an_address() -> None:
    assert addresses_of("https://a.example/x?token=t") == [
        "https://a.example/x?token=t",
        "https://a.example:443/x?token=t",
    ]
    assert addresses_of("http://a.example:80/x") == ["http://a.example/x", "http://a.example:80/x"]
    assert addresses_of("https://a.example:8443/x") == ["https://a.example:8443/x"]


@pytest.mark.parametrize("header", ["host", "x-forwarded-host"])
def test_a_message_under_way_keeps_the_host_that_it_was_sent_with(header: str) -> None:
    """`public_url` may change while receipts are still to come."""
    signature = TwilioSignature("token", ("https://new.example/cb?token=t",))
    body = urlencode({"MessageSid": "SM1", "MessageStatus": "delivered"}).encode()
    given = base64.b64encode(signed("token", "https://old.example/cb?token=t", body)).decode()
    assert not signature.holds({HEADER: given, "host": "new.example"}, body, b"")
    called = {"host": "10.0.0.1:8080", header: "old.example"}
    assert signature.holds({HEADER: given} | called, body, b"")
    assert not signature.holds({HEADER: given, "host": "other.example"}, body, b"")
    for odd in ("", "[", "a b", "old.example/cb", ":443", "ключ"):
        assert not signature.holds({HEADER: given, header: odd}, body, b"")


# --- settings


def settings(**changes: object) -> TwilioSettings:
    keys: dict[str, object] = {
        "kind": "twilio-sms",
        "account_sid": SID,
        "api_key_env": "T",
        "sender": "+15550100",
    }
    return TwilioSettings(**(keys | changes))  # type: ignore[arg-type]


def test_the_account_is_part_of_the_address_and_signs() -> None:
    assert settings().sends_to == BASE
    assert list(settings().faults()) == []
    assert [key for key, _ in settings(account_sid="me").faults()] == ["account_sid"]
    auth = settings().callback_auth(lambda _: "token", ("https://a.example/cb",))
    assert auth == CallbackAuth(signature=TwilioSignature("token", ("https://a.example/cb",)))
    assert auth.only_signed


def test_the_address_that_is_given_out_is_the_one_that_is_signed() -> None:
    text = f"""
[server]
public_url = "https://gateway.example.com"
[providers.twilio]
kind = "twilio-sms"
account_sid = "{SID}"
api_key_env = "TWILIO"
sender = "+15550100"
"""
    read = parse(text, Path("/nowhere/kaskad.toml"), {"TWILIO": "a-long-auth-token-of-twilio"})
    auth = bootstrap.callback_auths_of(read)["twilio"]
    assert auth.signature == TwilioSignature(
        "a-long-auth-token-of-twilio", ("https://gateway.example.com/v1/callbacks/twilio",)
    )
    assert http_config(read.provider("twilio")).base_url == BASE


def test_a_message_under_way_keeps_the_address_that_it_was_sent_with() -> None:
    text = f"""
[server]
public_url = "https://gateway.example.com"
[providers.twilio]
kind = "twilio-sms"
account_sid = "{SID}"
api_key_env = "TWILIO"
callback_token_env = ["NEW", "OLD"]
was = ["sms-one"]
sender = "+15550100"
"""
    secrets = {"TWILIO": "a-long-auth-token", "NEW": "a-new-token/1", "OLD": "an-old-token"}
    read = parse(text, Path("/nowhere/kaskad.toml"), secrets)
    auth = bootstrap.callback_auths_of(read)["twilio"]
    assert auth.signature is not None
    base = "https://gateway.example.com/v1/callbacks"
    body = urlencode({"MessageSid": "SM1", "MessageStatus": "delivered"}).encode()
    for url, good in (
        (f"{base}/twilio?token=a-new-token%2F1", True),
        (f"{base}/twilio?token=an-old-token", True),
        (f"{base}/sms-one?token=a-new-token%2F1", True),
        (f"{base}/sms-one?token=an-old-token", True),
        (f"{base}/other?token=an-old-token", False),
    ):
        digest = base64.b64encode(signed("a-long-auth-token", url, body)).decode()
        assert auth.signature.holds({HEADER: digest}, body, b"") is good, url
    assert (
        http_config(read.provider("twilio")).callback_url == f"{base}/twilio?token=a-new-token%2F1"
    )
