"""Events of mails at `/v1/callbacks/{provider}`: signatures, certificates, wishes, greetings."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gateway.ingress import outside
from gateway.ingress.http.problems import Refusal
from gateway.ingress.outside import BYTES_MAX, Outside
from providers.simulator import Knobs
from providers.simulator.exchange import Exchange
from providers.simulator.twins import TWINS
from tests.ingress.people.test_people import key_of
from tests.providers.test_mail_events import certificate_of, sns
from tests.worlds.ingress_world import World, with_ingress

MAIL = {
    "[routes.both]": """
[providers.mailgun]
kind = "smtp"
host = "localhost"
from = "news@shop.example"
events = "mailgun"
callback_key_env = "CALLBACK_SECRET"
[providers.ses]
kind = "smtp"
host = "localhost"
from = "news@shop.example"
events = "ses"
callback_token_env = "CALLBACK_TOKEN"
[providers.silent]
kind = "smtp"
host = "localhost"
from = "news@shop.example"
[providers.go]
kind = "unisender-go"
base_url = "http://127.0.0.1:1"
api_key_env = "PROVIDER_KEY"
sender = "Shop <news@shop.example>"
[routes.mailgun]
steps = [{ provider = "mailgun", wait = "2h" }]
[routes.ses]
steps = [{ provider = "ses", wait = "2h" }]
[routes.go]
steps = [{ provider = "go", wait = "2h" }]
[routes.both]"""
}
TO = {"email": "Anna@Пример.рф"}
NEWS = {
    "to": TO,
    "category": "transactional",
    "text": "Hello",
    "email": {"subject": "News", "from": "Shop <news@shop.example>"},
}
SES = "/v1/callbacks/ses?token=tok"


async def sent(world: World, route: str) -> str:
    answer = await world.send(NEWS | {"route": route})
    assert answer.status == 202
    id_: str = answer.json["id"]
    await world.hand_over(id_)
    return id_


async def status(world: World, id_: str) -> Any:
    found = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert found["to"] == {"email": "anna@xn--e1afmkfd.xn--p1ai"}
    assert [step["channel"] for step in found["steps"]] == ["email"]
    return found["status"]


def mailgun(event: str, ref: str, key: str = "hush", **more: object) -> dict[str, Any]:
    signature = hmac.new(key.encode(), b"1529006854t0ken", "sha256").hexdigest()
    return {
        "signature": {"timestamp": "1529006854", "token": "t0ken", "signature": signature},
        "event-data": {
            "event": event,
            "id": "Ase7i2zsRYeDXztHGENqRA",
            "recipient": TO["email"],
            "user-variables": {"kaskad": ref},
            **more,
        },
    }


@with_ingress(changed=MAIL)
async def test_a_signed_event_is_a_receipt_and_a_forged_one_changes_nothing(world: World) -> None:
    id_ = await sent(world, "mailgun")
    path = "/v1/callbacks/mailgun"
    forged = await world.call("POST", path, mailgun("delivered", f"{id_}.0", "guess"), key="")
    assert forged.status == 401
    unsigned = {"event-data": {"event": "delivered", "user-variables": {"kaskad": f"{id_}.0"}}}
    assert (await world.call("POST", path, unsigned, key="")).status == 401
    assert await status(world, id_) == "sent"
    for _ in range(2):  # the same event again
        answer = await world.call("POST", path, mailgun("delivered", f"{id_}.0"), key="")
        assert (answer.status, answer.json["faults"]) == (200, 0)
    assert await status(world, id_) == "delivered"


@with_ingress(changed=MAIL)
async def test_a_complaint_opts_out_of_marketing_by_mail(world: World) -> None:
    answer = await world.call("POST", "/v1/callbacks/mailgun", mailgun("complained", "x"), key="")
    assert answer.json["replies"] == 1
    found = await world.call("GET", "/v1/optouts/anna@xn--e1afmkfd.xn--p1ai")
    assert found.status == 200
    told = found.json["channels"]["email"]
    assert (told["scope"], told["by"], told["reason"]) == ("marketing", "person", "at_provider")


def complaint_of_a_reader() -> bytes:
    """What the simulator posts as Mailgun when somebody reports a mail as spam."""
    knobs = Knobs(
        email_share=1.0,
        email_delivered=1.0,
        email_undelivered=0.0,
        email_complained=1.0,
        hooks={"smtp": "http://here"},
    )
    exchange, twin = Exchange(knobs), TWINS["smtp"]
    mail = b"From: a@b.example\r\nDate: now\r\nMessage-ID: <m@b.example>\r\n"
    asked = b'X-Mailgun-Variables: {"kaskad":"m"}\r\n\r\nHello'
    exchange.send(twin, twin.read_send("email", mail + asked, TO["email"]), 1)
    (push,) = (each for each in exchange.tick(1, everything=True) if each.kind == "reply")
    return twin.post([push.report], "hush")


@with_ingress(changed=MAIL)
async def test_a_reader_of_the_simulator_who_complains_opts_out(world: World) -> None:
    body = complaint_of_a_reader()
    address = "/v1/optouts/anna@xn--e1afmkfd.xn--p1ai"
    assert (await world.call("GET", address)).status == 404
    answer = await world.call("POST", "/v1/callbacks/mailgun", body, key="")
    assert (answer.status, answer.json["replies"]) == (200, 1)
    assert (await world.call("GET", address)).status == 200


@with_ingress(changed=MAIL)
async def test_a_wish_that_its_provider_tells_again_is_done_once(world: World) -> None:
    path, told = "/v1/callbacks/mailgun", mailgun("complained", "x")
    address = "/v1/optouts/anna@xn--e1afmkfd.xn--p1ai"
    assert (await world.call("POST", path, told, key="")).json["replies"] == 1
    manager = await key_of(world, "shop", "send", "manage")
    assert (await world.call("DELETE", address, key=manager)).status in (200, 204)
    again = await world.call("POST", path, told, key="")
    assert (again.status, again.json.get("replies", 0)) == (200, 0)
    assert (await world.call("GET", address)).status == 404


@with_ingress(changed=MAIL)
async def test_amazon_is_believed_with_its_own_certificate(world: World) -> None:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    asked: list[str] = []

    def amazon(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(200, content=certificate_of(key))

    world.app.callbacks._outside = Outside(httpx2.MockTransport(amazon))
    id_ = await sent(world, "ses")
    tags = {"kaskad": [f"{id_}_0"]}
    good = signed(sns({"eventType": "Delivery", "mail": {"tags": tags}}), key)
    assert (await world.call("POST", SES, good | {"Message": "{}"}, key="")).status == 401
    assert (await world.call("POST", "/v1/callbacks/ses", good, key="")).status == 401
    elsewhere = good | {"SigningCertURL": "https://evil.example/a.pem"}
    assert (await world.call("POST", SES, elsewhere, key="")).status == 401
    assert await status(world, id_) == "sent"
    assert (await world.call("POST", SES, good, key="")).status == 200
    assert await status(world, id_) == "delivered"
    assert asked == [good["SigningCertURL"]]  # once, and nowhere else

    url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=b"
    topic = sns("Welcome", Type="SubscriptionConfirmation", SubscribeURL=url, Token="b")
    assert (await world.call("POST", SES, topic, key="")).status == 401
    assert len(asked) == 1
    answer = await world.call("POST", SES, signed(topic, key), key="")
    assert (answer.status, asked[1:]) == (200, [url])


def signed(made: dict[str, Any], key: rsa.RSAPrivateKey) -> dict[str, Any]:
    more = ("SubscribeURL",) if "SubscribeURL" in made else ()
    token = ("Token",) if "Token" in made else ()
    names = ("Message", "MessageId", *more, "Timestamp", *token, "TopicArn", "Type")
    text = "".join(f"{name}\n{made[name]}\n" for name in names)
    signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return made | {"Signature": base64.b64encode(signature).decode()}


@with_ingress(changed=MAIL)
@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(404),
        httpx2.Response(302, headers={"location": "https://evil.example/"}),
        httpx2.Response(200, content=b"x" * (BYTES_MAX + 1)),
        httpx2.ConnectError("no route"),
    ],
    ids=["missing", "elsewhere", "endless", "away"],
)
async def test_a_certificate_that_does_not_come_is_asked_for_again(
    world: World, answer: httpx2.Response | httpx2.ConnectError
) -> None:
    def amazon(request: httpx2.Request) -> httpx2.Response:
        if isinstance(answer, httpx2.ConnectError):
            raise answer
        return answer

    world.app.callbacks._outside = Outside(httpx2.MockTransport(amazon))
    assert (await world.call("POST", SES, sns({}), key="")).status == 503


class Dripping(httpx2.AsyncByteStream):
    """An answer that never ends, each piece of it in time."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b"."
            await asyncio.sleep(0.001)


def test_what_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "TIMEOUT_S", 0.02)
    monkeypatch.setattr(outside, "BYTES_MAX", 1 << 40)
    drip = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Dripping()))
    with pytest.raises(Refusal):
        asyncio.run(Outside(drip).get("https://sns.eu-west-1.amazonaws.com/"))


@with_ingress(changed=MAIL)
async def test_unisender_asks_first_and_then_signs(world: World) -> None:
    path = "/v1/callbacks/go"
    assert (await world.call("GET", path, key="")).status == 200
    assert (await world.call("GET", "/v1/callbacks/mailgun", key="")).status == 405
    assert (await world.call("GET", "/v1/callbacks/nobody", key="")).status == 404
    id_ = await sent(world, "go")
    data = {"status": "delivered", "metadata": {"kaskad": f"{id_}.0"}, "email": TO["email"]}
    event = {"event_name": "transactional_email_status", "event_data": data}
    body = json.dumps({"auth": "%s", "events_by_user": [{"events": [event]}]})
    auth = hashlib.md5((body % "k").encode(), usedforsecurity=False).hexdigest()
    wrong = await world.call("POST", path, (body % ("0" * 32)).encode(), key="")
    assert wrong.status == 401
    assert (await world.call("POST", path, (body % auth).encode(), key="")).status == 200
    assert await status(world, id_) == "delivered"


HMAC = """sender = "Shop <news@shop.example>"
callback_hmac_secret_env = "CALLBACK_SECRET"
callback_hmac_header = "X-Proof"
"""


@with_ingress(
    changed={"[routes.both]": MAIL["[routes.both]"].replace(HMAC.partition("\n")[0] + "\n", HMAC)}
)
async def test_a_signature_may_be_asked_for_beside_an_hmac(world: World) -> None:
    body = '{"auth": "%s", "events_by_user": []}'
    auth = hashlib.md5((body % "k").encode(), usedforsecurity=False).hexdigest()
    signed = (body % auth).encode()
    path, digest = "/v1/callbacks/go", hmac.new(b"hush", signed, "sha256").hexdigest()
    good = await world.call("POST", path, signed, {"X-Proof": digest}, key="")
    assert good.status == 200
    assert (await world.call("POST", path, signed, {"X-Proof": "0" * 64}, key="")).status == 401
    assert (await world.call("POST", path, signed, key="")).status == 401
    other = signed + b" "
    digest = hmac.new(b"hush", other, "sha256").hexdigest()
    assert (await world.call("POST", path, other, {"X-Proof": digest}, key="")).status == 401


@with_ingress(changed=MAIL)
async def test_a_mail_server_without_events_has_no_callbacks(world: World) -> None:
    assert (await world.call("POST", "/v1/callbacks/silent", {}, key="")).status == 404
