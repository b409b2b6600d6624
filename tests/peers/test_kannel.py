"""Debian's `kannel` as a client of the simulator's SMSC: what it sends, and what it is told."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest

from providers.simulator import Knobs, Settings, child
from providers.simulator.book import Bill
from tests.worlds.ports import free_port
from tests.worlds.stack import until

KEY: Final = "secret"
WAIT_S: Final = 30.0  # for what must happen
PHONE: Final = "79161234567"
ABSENT: Final = "79160000001"
REPLY: Final = "Спасибо €"
# What it is to tell of: 1 delivered, 2 not delivered, 8 taken by the SMSC, 16 refused by it.
TOLD_OF: Final = 1 | 2 | 8 | 16
# text, parts: the longest of one part and of two parts in each alphabet, and one character more.
TEXTS: Final = [
    ("Hello @[€]", 1),
    ("x" * 160, 1),
    ("x" * 161, 2),
    ("x" * 306, 2),
    ("x" * 307, 3),
    ("я" * 70, 1),
    ("я" * 71, 2),
    ("Здравствуйте! [€] " * 8, 3),
]
CONFIGURATION: Final = """
group = core
admin-port = {admin}
admin-interface = 127.0.0.1
admin-password = {key}
smsbox-port = {box}
smsbox-interface = 127.0.0.1
log-level = 0

{smscs}
group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {http}
sendsms-interface = 127.0.0.1
log-level = 0

group = sendsms-user
username = tester
password = {key}
concatenation = true
max-messages = 10

group = sms-service
keyword = default
catch-all = true
max-messages = 0
get-url = "{heard}/said?from=%p&to=%P&text=%b"
"""
SMSC: Final = """
group = smsc
smsc = smpp
smsc-id = simulator
host = 127.0.0.1
{bind}
smsc-username = kannel
smsc-password = {key}
system-type = ""
source-addr-ton = 5
source-addr-npi = 0
dest-addr-ton = 1
dest-addr-npi = 1
reconnect-delay = 1
"""
BINDS: Final = {
    "trx": ["port = {smpp}\ntransceiver-mode = true"],
    "tx+rx": ["port = {smpp}", "receive-port = {smpp}"],
}


class Heard(NamedTuple):
    path: str
    told: dict[str, str]


class Ear(ThreadingHTTPServer):
    """Takes what Kannel calls, and remembers it."""

    daemon_threads = True

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        super().__init__(("127.0.0.1", 0), Listener)


class Listener(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ear = self.server
        assert isinstance(ear, Ear)
        url = urlsplit(self.path)
        told = dict(parse_qsl(url.query, encoding="latin-1"))
        ear.heard.append(Heard(url.path, told))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
        pass


class Kannel:
    def __init__(self, http: int, ear: Ear) -> None:
        self._http = http
        self._ear = ear

    def send(self, name: str, text: str, to: str = PHONE) -> None:
        latin = all(ord(char) < 0x400 for char in text)
        asked = {
            "username": "tester",
            "password": KEY,
            "from": "Shop",
            "to": to,
            "text": text,
            "charset": "UTF-8",
            "coding": "0" if latin else "2",
            "dlr-mask": str(TOLD_OF),
            "dlr-url": f"{self.told_at}/told?name={quote(name)}&kind=%d",
        }
        url = f"http://127.0.0.1:{self._http}/cgi-bin/sendsms?{urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
            assert answer.status == 202, answer.read()

    @property
    def told_at(self) -> str:
        return f"http://127.0.0.1:{self._ear.server_address[1]}"

    def heard(self, path: str) -> list[dict[str, str]]:
        return [each.told for each in self._ear.heard if each.path == path]

    def kinds(self, name: str) -> list[int]:
        """What it was told of the message of that name, once a part."""
        return sorted(int(told["kind"]) for told in self.heard("/told") if told["name"] == name)


@pytest.fixture(scope="module")
def simulator() -> Iterator[tuple[child.Child, int]]:
    port = free_port()
    # It does not know a receipt that comes before the answer to its submit_sm.
    knobs = Knobs(receipt_ms_min=500, receipt_ms_max=500, sms_delivered=1.0, sms_undelivered=0.0)
    with child.running(Settings(api_key=KEY, knobs=knobs, smpp_port=port)) as started:
        yield started, port


@pytest.fixture(params=BINDS)
def kannel(
    request: pytest.FixtureRequest, simulator: tuple[child.Child, int], tmp_path: Path
) -> Iterator[Kannel]:
    simulator[0].reset()
    admin, http = free_port(), free_port()
    ear = Ear()
    Thread(target=ear.serve_forever, daemon=True).start()
    made = Kannel(http, ear)
    written = tmp_path / "kannel.conf"
    binds = [bind.format(smpp=simulator[1]) for bind in BINDS[request.param]]
    written.write_text(
        CONFIGURATION.format(
            smscs="".join(SMSC.format(bind=bind, key=KEY) for bind in binds),
            admin=admin,
            box=free_port(),
            http=http,
            key=KEY,
            heard=made.told_at,
        )
    )
    try:
        with running("bearerbox", written):
            status = f"http://127.0.0.1:{admin}/status.txt"
            until(
                "its sessions are bound",
                lambda: answer_of(status).count("(online ") == len(binds),
                WAIT_S,
            )
            with running("smsbox", written):
                until("smsbox is there", lambda: "smsbox:" in answer_of(status), WAIT_S)
                until("it takes texts", lambda: answer_of(f"http://127.0.0.1:{http}/"), WAIT_S)
                yield made
    finally:
        ear.shutdown()
        ear.server_close()


@contextmanager
def running(name: str, configuration: Path) -> Iterator[None]:
    log = configuration.with_name(f"{name}.log")
    with log.open("wb") as out:
        process = subprocess.Popen([name, str(configuration)], stdout=out, stderr=out)
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.kill()
        process.wait()


def answer_of(url: str) -> str:
    """What is answered, whatever its status; empty while nobody does."""
    try:
        with urllib.request.urlopen(url, timeout=WAIT_S) as answer:  # noqa: S310 - our own
            return str(answer.read().decode())
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.read().decode() or str(refused.code)
    except OSError:
        return ""


def test_its_texts_arrive_in_all_their_parts_and_it_is_told_of_each_text(
    kannel: Kannel, simulator: tuple[child.Child, int]
) -> None:
    for number, (text, _) in enumerate(TEXTS):
        kannel.send(str(number), text, str(int(PHONE) + number))
    until("it is told of each", lambda: len(kannel.heard("/told")) >= 2 * len(TEXTS), WAIT_S)
    # It asks for a receipt of one part only.
    assert [kannel.kinds(str(number)) for number, _ in enumerate(TEXTS)] == [[1, 8]] * len(TEXTS)
    bill: Bill = simulator[0].bill()
    found = {line.to: (line.parts, line.requests, line.status) for line in bill.messages.values()}
    assert found == {
        str(int(PHONE) + number): (parts, 1, "DELIVRD") for number, (_, parts) in enumerate(TEXTS)
    }


def test_it_is_told_why_somebody_was_not_reached_and_what_somebody_wrote(
    kannel: Kannel, simulator: tuple[child.Child, int]
) -> None:
    simulator[0].turn(
        by_phone={
            PHONE: {"sms": {"ending": "delivered", "reply": REPLY}},
            ABSENT: {"sms": {"ending": "undelivered"}},
        }
    )
    kannel.send("there", "Hello")
    kannel.send("absent", "Hello", ABSENT)
    until("it is told why", lambda: kannel.kinds("absent") == [2, 8], WAIT_S)
    until("it is told what", lambda: kannel.heard("/said"), WAIT_S)
    assert kannel.kinds("there") == [1, 8]
    assert [(said["to"], said["from"]) for said in kannel.heard("/said")] == [("Shop", f"+{PHONE}")]
    assert kannel.heard("/said")[0]["text"].encode("latin-1").decode("utf-16-be") == REPLY
    (sms,) = [line for line in simulator[0].bill().channels if line.channel == "sms"]
    assert (sms.messages, sms.accepted, sms.delivered) == (2, 2, 1)
