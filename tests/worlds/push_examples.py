"""What the conformance suite of push services needs to know of each: how it answers a device.

A row makes the port with its server at an address of the test's, and writes the answers that the
service gives.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from providers.contract import (
    AccountFault,
    Device,
    FcmAddress,
    Provider,
    SendFault,
    Submission,
    Subscription,
    SubscriptionKeys,
    Throttled,
    Unknown,
    WebPushAddress,
)
from providers.registry import KINDS
from providers.settings import Configured
from tests.worlds.provider_examples import submission

VAPID_KEY = base64.urlsafe_b64encode(bytes(range(1, 33))).decode().rstrip("=")
SUBJECT = "mailto:ops@shop.example"
HOST = "push.example"
AUTH = bytes(range(16))

Answer = tuple[int, bytes, tuple[tuple[str, str], ...]]  # status, body, headers


@dataclass(frozen=True)
class PushRow:
    """One service. Each answer refuses or takes one device: `gone` says that it is no more,
    `content` that the message cannot be sent to any, `account` that nobody's of ours can. `faults`
    are what a request as a whole may come to."""

    kind: str
    settings: Callable[[str, Path], dict[str, Any]]
    device: Callable[[int], Device]
    accepted: Answer
    gone: Answer
    content: Answer
    account: Answer
    faults: Sequence[tuple[Answer, type[SendFault]]]
    wish: tuple[Answer, int]  # to wait, and how many milliseconds
    devices_in: Callable[[bytes], int]  # which device's a request is

    def provider(self, url: str, folder: Path, name: str = "p", **changes: object) -> Provider:
        """To be called under trio."""
        return KINDS[self.kind].connect(self._configured(url, folder, name, **changes))

    def _configured(self, url: str, folder: Path, name: str, **changes: object) -> Configured:
        keys = self.settings(url, folder) | {"kind": self.kind, **changes}
        return Configured(
            name=name,
            settings=KINDS[self.kind].settings(**keys),
            secret=lambda variable: VAPID_KEY if variable else "",
            callback_url="",
        )


def to_devices(row: PushRow, *numbers: int, **changes: object) -> Submission:
    devices = tuple(map(row.device, numbers))
    said = {"to": "", "sender": "", "devices": devices, "message": "M" * 20} | changes
    return submission("m-1.0", **said)


@cache
def browser_key(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(1000 + number, ec.SECP256R1())


def browser(number: int, host: str = HOST) -> WebPushAddress:
    point = (
        browser_key(number).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    )
    keys = SubscriptionKeys(
        base64.urlsafe_b64encode(point).decode().rstrip("="),
        base64.urlsafe_b64encode(AUTH).decode().rstrip("="),
    )
    return WebPushAddress(Subscription(f"https://{host}/sub/{number}", keys))


@cache
def google_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def google_key_pem() -> bytes:
    return google_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def service_account(folder: Path, token_uri: str) -> Path:
    """Writes the file that Google's console gives."""
    file = folder / "service-account.json"
    file.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "shop-1",
                "private_key_id": "key-1",
                "private_key": google_key_pem().decode(),
                "client_email": "kaskad@shop-1.iam.gserviceaccount.com",
                "token_uri": token_uri,
            }
        )
    )
    return file


def fcm_error(status: int, code: str, message: str = "", **headers: str) -> Answer:
    """As FCM writes them: Google's word for the status, and FCM's own among the details."""
    kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
    error = {
        "code": status,
        "message": message or f"It is {code}.",
        "status": "ANY",
        "details": [{"@type": kind, "errorCode": code}],
    }
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return status, json.dumps({"error": error}).encode(), named


FCM = PushRow(
    kind="fcm",
    settings=lambda base_url, folder: {
        "service_account_file": str(service_account(folder, base_url + "/token")),
        "base_url": base_url,
    },
    device=lambda number: FcmAddress(f"token-{number}"),
    accepted=(200, b'{"name":"projects/shop-1/messages/0:1500415314455276%31bd1c96"}', ()),
    gone=fcm_error(404, "UNREGISTERED"),
    content=fcm_error(400, "INVALID_ARGUMENT", "Invalid value at 'message.data'"),
    account=fcm_error(403, "SENDER_ID_MISMATCH"),
    faults=(
        (fcm_error(429, "QUOTA_EXCEEDED"), Throttled),
        (fcm_error(503, "UNAVAILABLE"), Throttled),
        (fcm_error(401, "THIRD_PARTY_AUTH_ERROR"), AccountFault),
        ((403, b'{"error":{"status":"PERMISSION_DENIED","message":"no"}}', ()), AccountFault),
        ((404, b"<html>not here</html>", ()), AccountFault),
        ((401, b'{"error":{"status":"UNAUTHENTICATED"}}', ()), AccountFault),
        (fcm_error(500, "INTERNAL"), Unknown),
        ((502, b"<html>bad gateway</html>", ()), Unknown),
        ((500, b"[" * 100_000, ()), Unknown),
    ),
    wish=(fcm_error(429, "QUOTA_EXCEEDED", retry_after="7"), 7_000),
    devices_in=lambda body: int(
        json.loads(body[body.index(b"\r\n\r\n") :])["message"]["token"].removeprefix("token-")
    ),
)
WEB_PUSH = PushRow(
    kind="webpush",
    settings=lambda base_url, _: {
        "vapid_key_env": "VAPID",
        "subject": SUBJECT,
        "hosts": (HOST,),
        "base_url": base_url,
    },
    device=browser,
    accepted=(201, b"", (("Location", "https://push.example/m/1"),)),
    gone=(410, b"", ()),
    content=(413, b"", ()),
    account=(403, b'{"reason":"VapidPkHashMismatch"}', ()),
    faults=(
        ((429, b"", ()), Throttled),
        ((500, b'{"errno":999,"message":"oops"}', ()), Unknown),
        ((503, b"", ()), Unknown),
    ),
    wish=((429, b"", (("Retry-After", "7"),)), 7_000),
    devices_in=lambda request: int(request.split(b" ")[1].rpartition(b"/")[2]),
)
ROWS: Sequence[PushRow] = (FCM, WEB_PUSH)
