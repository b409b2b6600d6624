"""What we send to browsers is read by others' code: PyPI's http-ece decrypts it, py-vapid says who
sent it; and our simulator reads what they encrypt and sign."""

from __future__ import annotations

import base64
import json
import secrets
import time
from pathlib import Path

import http_ece
import trio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02

from providers.contract import Refused, Submitted
from providers.simulator.browsers import HOST, decrypted, subscribed
from providers.simulator.webpush.twin import WebPush
from providers.webpush.vapid import Vapid
from tests.worlds.push_examples import AUTH, SUBJECT, WEB_PUSH, browser_key, to_devices
from tests.worlds.raw_server import Peer, serving


def test_a_message_is_decrypted_and_its_sender_verified_by_others(tmp_path: Path) -> None:
    read: list[dict[str, object]] = []

    async def service(peer: Peer) -> None:
        while request := await peer.request():
            head, _, body = request.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
            number = int(head.split(b" ")[1].rpartition(b"/")[2])
            status = b"403 Forbidden"
            if Vapid02.verify(headers["Authorization"]):
                text = http_ece.decrypt(
                    body, private_key=browser_key(number), auth_secret=AUTH, version="aes128gcm"
                )
                read.append(json.loads(text))
                status = b"201 Created"
            await peer.say(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

    async def main() -> None:
        async with serving(service) as server:
            provider = WEB_PUSH.provider(server.base_url, tmp_path)
            for text in ("Здравствуйте", "x", "long " * 199):
                (taken,) = await provider.deliver([to_devices(WEB_PUSH, 1, 2, text=text)])
                assert isinstance(taken, Submitted)
            await provider.aclose()

    trio.run(main)
    assert [told["body"] for told in read[::2]] == ["Здравствуйте", "x", "long " * 199]
    assert [told["body"] for told in read[1::2]] == ["Здравствуйте", "x", "long " * 199]


def test_a_key_made_by_others_signs_for_us() -> None:
    theirs = Vapid02()
    theirs.generate_keys()
    ours = Vapid(theirs.private_pem().decode(), SUBJECT)
    assert Vapid02.verify(ours.authorization("https://push.example", int(time.time())))
    point = theirs.public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert base64.urlsafe_b64decode(ours.public_key + "=") == point


def test_the_simulator_reads_what_others_encrypt_and_sign() -> None:
    keys = subscribed("phone").subscription.keys
    private = ec.generate_private_key(ec.SECP256R1())
    body = http_ece.encrypt(
        b'{"id":"m-1"}',
        salt=secrets.token_bytes(16),
        private_key=private,
        dh=base64.urlsafe_b64decode(keys.p256dh + "="),
        auth_secret=base64.urlsafe_b64decode(keys.auth + "=="),
        version="aes128gcm",
    )
    assert decrypted("phone", body) == b'{"id":"m-1"}'
    theirs = Vapid02()
    theirs.generate_keys()
    signed = theirs.sign({"sub": SUBJECT, "aud": f"https://{HOST}", "exp": int(time.time()) + 60})
    headers = {b"authorization": signed["Authorization"].encode(), b"ttl": b"60"}
    assert WebPush().is_authorised(headers, "")
    assert not WebPush().is_authorised(headers | {b"authorization": b"vapid t=a.b.c,k=x"}, "")


def test_a_message_for_another_browser_cannot_be_read_by_others_either(tmp_path: Path) -> None:
    async def service(peer: Peer) -> None:
        while request := await peer.request():
            body = request.partition(b"\r\n\r\n")[2]
            try:
                http_ece.decrypt(body, private_key=browser_key(9), auth_secret=AUTH)
            except http_ece.ECEException:
                await peer.say(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
            else:
                await peer.say(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    async def main() -> None:
        async with serving(service) as server:
            provider = WEB_PUSH.provider(server.base_url, tmp_path)
            (met,) = await provider.deliver([to_devices(WEB_PUSH, 1)])
            assert isinstance(met, Refused)
            await provider.aclose()

    trio.run(main)
