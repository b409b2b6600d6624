"""The bytes of requests, prepared before the clock starts.

All messages of a load differ in nine digits only, so a request is three pieces joined and its
length is known. Pure, but for reading the references that receipts are about.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.load_spec import Spec

PERSONS_MAX = 1_000_000_000
_MARK = "\x00"
_TOKEN = "d" * 150  # a token of FCM has some 160 characters

BROWSER = (
    b"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
    b"Chrome/130.0.0.0 Mobile Safari/537.36"
)


class Messages(NamedTuple):
    """`request(n)` is the whole POST of message n, `line(n)` its line of a stream."""

    request: Callable[[int], bytes]
    line: Callable[[int], bytes]
    stream_head: bytes


def messages_of(spec: Spec) -> Messages:
    """Raises ValueError when the range of persons leaves the nine digits."""
    if not 0 <= spec.first <= spec.first + spec.messages <= PERSONS_MAX:
        raise ValueError(f"There are {PERSONS_MAX} persons, not {spec.first + spec.messages}.")
    device = {"push": [{"kind": "fcm", "token": f"{_TOKEN}{_MARK}"}]}
    to: object = device if spec.devices else f"+79{_MARK}"
    if spec.mailboxes:
        to = {"email": f"p{_MARK}@bench.example"}
    item = {"to": to, "category": spec.category, "text": spec.text}
    if spec.mailboxes:
        item["email"] = {"subject": "Скидки к празднику"}
    if spec.route:
        item["route"] = spec.route
    if spec.campaign:
        item["campaign"] = spec.campaign
    if spec.users:
        item["user"] = f"u{_MARK}"
    pieces = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
    pieces_of = pieces.split(json.dumps(_MARK)[1:-1].encode())
    length = sum(map(len, pieces_of)) + 9 * (len(pieces_of) - 1)
    head = _head(spec, b"application/json", b"Content-Length: %d" % length)
    first = spec.first

    def request(number: int) -> bytes:
        return head + (b"%09d" % (first + number)).join(pieces_of)

    def line(number: int) -> bytes:
        return (b"%09d" % (first + number)).join(pieces_of) + b"\n"

    stream_head = _head(spec, b"application/x-ndjson", b"Transfer-Encoding: chunked")
    return Messages(request, line, stream_head)


def follow_of(spec: Spec) -> bytes:
    """A telephone's browser follows the link at `spec.path`."""
    return (
        b"GET %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: %b\r\n"
        b"Accept: text/html,application/xhtml+xml\r\nAccept-Language: ru-RU,ru;q=0.9\r\n"
        b"Sec-Fetch-Mode: navigate\r\n\r\n" % (spec.path.encode(), spec.port, BROWSER)
    )


def receipts_of(spec: Spec) -> list[bytes]:
    """Every POST of `delivered` reports about the references in the file `spec.refs`."""
    refs = [msgspec.json.decode(line) for line in Path(spec.refs).read_bytes().splitlines()]
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".000+0000"
    requests = []
    for start in range(0, len(refs), spec.per_request):
        part = refs[start : start + spec.per_request]
        reports = b",".join(_report(ref, to, spec.price, stamp) for ref, to in part)
        body = b'{"results":[' + reports + b"]}"
        length = b"Content-Length: %d" % len(body)
        requests.append(_head(spec, b"application/json", length) + body)
    return requests


def _report(ref: str, to: str, price: str, stamp: str) -> bytes:
    # By hand, because the price is a JSON number that no encoder may touch.
    return (
        f'{{"bulkId":"bench","price":{{"pricePerMessage":{price},"currency":"EUR"}},'
        '"status":{"groupId":3,"groupName":"DELIVERED","id":5,"name":"DELIVERED_TO_HANDSET",'
        '"description":"Message delivered to handset"},'
        '"error":{"groupId":0,"groupName":"OK","id":0,"name":"NO_ERROR",'
        '"description":"No error","permanent":false},'
        f'"messageId":"{ref}","to":"{to}","sender":"Bench","sentAt":"{stamp}","doneAt":"{stamp}",'
        f'"messageCount":1,"mccMnc":"25001","callbackData":"{ref}"}}'
    ).encode()


def _head(spec: Spec, media_type: bytes, length: bytes) -> bytes:
    lines = [
        b"POST " + spec.path.encode() + b" HTTP/1.1",
        b"Host: 127.0.0.1:%d" % spec.port,
        b"Content-Type: " + media_type,
        length,
    ]
    if spec.key:
        lines.append(b"Authorization: Bearer " + spec.key.encode())
    return b"\r\n".join(lines) + b"\r\n\r\n"
