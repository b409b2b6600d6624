"""Our SMPP session against other people's SMSCs: npm `smpp`, in plain and with TLS, and PyPI
`smpp34`."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import smpp34
import trio

from providers.contract import AccountFault, NotTaken, Submitted
from providers.smpp.provider import SmppProvider, open_stream
from tests.worlds.smsc import Desk, config, submission

LONG = "Здравствуйте! [€] " * 8
WAIT_S = 20.0  # for what must happen


class NodeSmsc:
    """The script beside, and what it said."""

    def __init__(self, *arguments: str) -> None:
        command = ["node", str(Path(__file__).parent / "smsc.js"), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.said: list[dict[str, Any]] = []
        self.port = int(self._next()["port"])

    def _next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    async def until(self, name: str, count: int) -> list[dict[str, Any]]:
        """Its first `count` lines that have this key."""
        with trio.fail_after(WAIT_S):
            while len(found := [line for line in self.said if name in line]) < count:
                self.said.append(await trio.to_thread.run_sync(self._next))
        return found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Files of a key and of its certificate, for the address of this machine."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = str(folder / "key.pem"), str(folder / "cert.pem")
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-keyout", key, "-out", cert, "-subj", "/CN=127.0.0.1"),
        *("-addext", "subjectAltName=IP:127.0.0.1"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return key, cert


@contextmanager
def node_smsc(*arguments: str) -> Iterator[NodeSmsc]:
    smsc = NodeSmsc(*arguments)
    try:
        yield smsc
    finally:
        smsc.process.kill()
        smsc.process.communicate()


@asynccontextmanager
async def bound(
    port: int, desk: Desk, certificate: str | None = None, **changes: Any
) -> AsyncIterator[SmppProvider]:
    """A provider at that port, whose answers have hexadecimal ids and whose receipts decimal."""
    formats = {"id_format_resp": "hex", "id_format_dlr": "dec"}
    terms = config(port=port, tls=certificate is not None, **(formats | changes))
    context = ssl.create_default_context(cafile=certificate) if certificate else None
    provider = SmppProvider(terms, partial(open_stream, terms, context))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(provider.run, desk)
        yield provider
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("bind", ["trx", "tx+rx"])
@pytest.mark.trio
async def test_messages_and_receipts_with_the_server_of_npm(
    certificate: tuple[str, str], tls: bool, bind: str
) -> None:
    desk = Desk()
    with node_smsc(*(certificate if tls else ())) as smsc:
        async with bound(smsc.port, desk, certificate[1] if tls else None, bind=bind) as sms:
            texts = ["Hello @[€]", "привет", LONG]
            batch = [submission(f"m{n}.0", text) for n, text in enumerate(texts)]
            outcomes = await sms.deliver([*batch, submission("m9.0", to="+79160000444")])
            submitted = await smsc.until("to", 5)
            # A receiver of its own has its receipts on another session, where that server has none.
            if bind == "trx":
                await smsc.until("thanked", 5)
        await smsc.until("unbound", 1 if bind == "trx" else 2)
    first, second, long, throttled = outcomes
    assert first == Submitted("m0.0", "160", 1)
    assert second == Submitted("m1.0", "161", 1)
    assert long == Submitted("m2.0", parts=3, part_ids=("162", "163", "164"))
    assert throttled == NotTaken("m9.0", throttled=True)
    assert [line["text"] for line in submitted[:2]] == texts[:2]
    assert "".join(line["text"] for line in submitted[2:]) == LONG
    assert [line["udh"][0][-4:] for line in submitted[2:]] == ["0301", "0302", "0303"]
    assert {(line["to"], line["from"]) for line in submitted} == {("79161234567", "Shop")}
    if bind == "trx":
        ids = [receipt.provider_id for receipt in desk.receipts]
        assert ids == ["160", "161", "162", "163", "164"]
        assert {receipt.status for receipt in desk.receipts} == {"delivered"}


@pytest.mark.parametrize("long", ["sar", "payload"])
@pytest.mark.trio
async def test_other_forms_of_long_texts_read_the_same_there(long: str) -> None:
    with node_smsc() as smsc:
        async with bound(smsc.port, Desk(), long=long) as sms:
            (outcome,) = await sms.deliver([submission("m.0", LONG)])
            submitted = await smsc.until("to", 3 if long == "sar" else 1)
    assert isinstance(outcome, Submitted)
    assert "".join(line["text"] for line in submitted) == LONG
    assert [line.get("sar") for line in submitted] == ([3, 3, 3] if long == "sar" else [None])


@pytest.mark.trio
async def test_a_wrong_password_is_the_accounts_fault_there() -> None:
    with node_smsc() as smsc:
        async with bound(smsc.port, Desk(), password="wrong") as sms:
            with pytest.raises(AccountFault, match="wrong_password"):
                await sms.deliver([submission()])


class Smpp34Smsc:
    """A server of PyPI's `smpp34` on a loop of its own: takes all, and tells of each by a
    receipt."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.texts: list[bytes] = []
        self.thanked = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        self._ready.wait()

    async def _serve(self) -> None:
        self._stopped = asyncio.Event()
        server = smpp34.Server("127.0.0.1", self.port)
        await server.start()
        self._ready.set()
        working = asyncio.ensure_future(self._work(server))
        await self._stopped.wait()
        working.cancel()
        await server.stop()

    async def _work(self, server: Any) -> None:
        sessions: dict[str, Any] = {}
        while True:
            event = await server.next()
            if isinstance(event, smpp34.Esme):
                sessions[event.session_id] = event
            elif isinstance(event, smpp34.SubmitSmEvent):
                self.texts.append(event.short_message)
                number = len(self.texts)
                event.accept(f"{number:x}")
                told = await sessions[event.session_id].deliver_sm(
                    event.source_addr,
                    f"id:{number} stat:DELIVRD err:000".encode(),
                    source_addr=event.destination_addr,
                    esm_class=4,
                )
                self.thanked += told.is_success

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self._loop.close()


@pytest.mark.trio
async def test_messages_and_receipts_with_the_server_of_smpp34() -> None:
    desk, smsc = Desk(), Smpp34Smsc()
    try:
        async with bound(smsc.port, desk, window=50) as sms:
            refs = [f"m{number}.0" for number in range(40)]
            outcomes = await sms.deliver([submission(ref, f"text {ref}") for ref in refs])
            with trio.fail_after(WAIT_S):
                while smsc.thanked < len(refs):  # noqa: ASYNC110  # another thread counts
                    await trio.sleep(0.01)
    finally:
        await trio.to_thread.run_sync(smsc.stop)
    # That server tells of what comes together in any order.
    ids = [outcome.provider_id for outcome in outcomes if isinstance(outcome, Submitted)]
    assert [smsc.texts[int(id_ or "") - 1] for id_ in ids] == [b"text " + r.encode() for r in refs]
    numbers = [int(receipt.provider_id or "") for receipt in desk.receipts]
    assert sorted(numbers) == list(range(1, 41))
