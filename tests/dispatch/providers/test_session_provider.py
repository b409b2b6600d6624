"""A provider without HTTP fits without a special case: a made-up kind that keeps a session.

It has a host and a port, no address, key or callback. It goes the way of every kind: its table in
a file, `kaskad check`, the policy, a dispatcher that delivers through it, and receipts that its own
task brings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
import trio

from gateway.cli import app
from gateway.dispatch.jobs import receipts as receipts_job
from gateway.redis.trio_driver import open_client
from gateway.settings import bootstrap
from gateway.settings.file import Settings, SettingsError, parse
from gateway.store.messages.receipts import Taken, take_receipts
from gateway.store.store import Store
from providers.contract import (
    NotSent,
    Outcome,
    Provider,
    ProviderConfig,
    Receipt,
    Receive,
    Submission,
    Submitted,
    TellTaken,
    WithoutLookUps,
)
from providers.notation import Text
from providers.registry import KINDS, ProviderKind
from providers.settings import Configured, ProviderSettings, TableFault
from tests.worlds.cascade_world import PRICES
from tests.worlds.dispatch_world import DispatchWorld, ScriptedProvider, dispatching
from tests.worlds.dispatch_world import world as dispatch_world

HOST = "127.0.0.1"
LINE_BYTES = 4096
ENV = {"SESSION_PASSWORD": "open"}


class SessionSettings(ProviderSettings, frozen=True, kw_only=True):
    host: Text
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    password_env: Text
    window: Annotated[int, msgspec.Meta(ge=1)] = 10

    def faults(self) -> Iterator[TableFault]:
        if "/" in self.host:
            yield "host", "is an address: write the name of the host alone."


class SessionProvider(WithoutLookUps):
    """One line a message, an answer a line, once it was welcomed; receipts come as lines of their
    own and are thanked for."""

    def __init__(self, configured: Configured) -> None:
        settings = configured.settings
        assert isinstance(settings, SessionSettings)
        self.config = ProviderConfig(
            name=configured.name,
            kind=settings.kind,
            sender=settings.sender,
            rate_per_s=int(settings.rate_per_s),
            timeout_ms=int(settings.timeout_ms),
            connections=settings.connections,
        )
        self.batch_max = settings.window
        self._address = settings.host, settings.port
        self._password = configured.secret(settings.password_env)
        self._session: Session | None = None
        self._answered: dict[str, trio.Event] = {}

    def tokens(self, batch: Sequence[Submission]) -> int:
        return len(batch)

    async def deliver(
        self, batch: Sequence[Submission], tell_taken: TellTaken | None = None
    ) -> list[Outcome]:
        session = self._session
        if session is None:
            raise NotSent("no_session", "There is no session.")
        self._answered |= {sent.ref: trio.Event() for sent in batch}
        await session.say(*(f"send {sent.ref}" for sent in batch))
        for sent in batch:
            await self._answered[sent.ref].wait()
            del self._answered[sent.ref]
            if tell_taken is not None:  # a real one waits for a few, before it tells
                tell_taken([Submitted(sent.ref)])
        return [Submitted(sent.ref) for sent in batch]

    async def run(self, receive: Receive) -> None:
        session = Session(await trio.open_tcp_stream(*self._address))
        async with session.stream:
            await session.say(f"hello {self._password}")
            try:
                while words := await session.hear():
                    if words[0] == "welcome":
                        self._session = session
                    elif words[0] == "taken":
                        self._answered[words[1]].set()
                    else:
                        await receive([Receipt("delivered", words[1])])
                        await session.say(f"thanks {words[1]}")
            finally:
                self._session = None
        raise OSError("The session ended.")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Session:
    """Lines of words over a connection; whole lines, also when many are said at once."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._saying = trio.Lock()
        self._rest = b""

    async def say(self, *lines: str) -> None:
        async with self._saying:
            await self.stream.send_all("".join(f"{line}\n" for line in lines).encode())

    async def hear(self) -> list[str]:
        """The next line's words; none when the connection is over."""
        while b"\n" not in self._rest:
            try:
                data = await self.stream.receive_some(LINE_BYTES)
            except trio.BrokenResourceError:
                return []
            if not data:
                return []
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode().split()


class Peer:
    """The provider's side: takes what is sent and reports it delivered."""

    def __init__(self) -> None:
        self.said: list[list[str]] = []
        self.hang_ups = 0  # sessions still to be ended after the greeting

    async def __call__(self, stream: trio.SocketStream) -> None:
        session = Session(stream)
        while words := await session.hear():
            self.said.append(words)
            if words[0] == "hello" and self.hang_ups:
                self.hang_ups -= 1
                return
            if words[0] == "hello":
                await session.say("welcome back")
            if words[0] == "send":
                await session.say(f"taken {words[1]}", f"delivered {words[1]}")

    def told(self, word: str) -> list[str]:
        return [words[1] for words in self.said if words[0] == word]


def text_of(port: int, more: str = "") -> str:
    return f"""
[providers.wire]
kind = "session"
host = "{HOST}"
port = {port}
password_env = "SESSION_PASSWORD"
sender = "Shop"
rate = "200/s"
{more}
[routes.r]
steps = [{{ provider = "wire" }}]
[categories.marketing]
route = "r"
"""


def read(port: int, more: str = "") -> Settings:
    return parse(text_of(port, more), Path("/etc/kaskad/k.toml"), ENV)


@pytest.fixture(autouse=True)
def _kind(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = ProviderKind(settings=SessionSettings, channel="sms", connect=SessionProvider)
    monkeypatch.setitem(KINDS, "session", kind)


def test_its_keys_are_its_own_and_unknown_ones_are_refused_naming_them() -> None:
    with pytest.raises(SettingsError) as caught:
        read(1, 'base_url = "https://example.com"\nprot = 2')
    told = {fault.key: fault.reason for fault in caught.value.faults}
    assert set(told) == {"providers.wire.base_url", "providers.wire.prot"}
    assert told["providers.wire.prot"].startswith("is an unknown key; did you mean port?")
    for key in ("kind", "sender", "rate", "host", "port", "password_env", "window"):
        assert f"{key}," in told["providers.wire.base_url"].replace(".", ",")
    assert "callback" not in told["providers.wire.base_url"]


def test_its_own_check_and_its_secret_are_told_with_all_other_faults() -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text_of(1).replace(HOST, "tcp://h"), Path("/k.toml"), {})
    assert {fault.key for fault in caught.value.faults} == {
        "providers.wire.host",
        "providers.wire.password_env",
    }


def test_it_has_a_channel_and_no_callback() -> None:
    settings = read(1)
    rules = bootstrap.policy_of(settings, lambda *_: None)
    assert (rules.providers["wire"].channel, rules.providers["wire"].can_look_up) == ("sms", False)
    assert bootstrap.callback_readers_of(settings) == {}
    assert bootstrap.callback_auths_of(settings) == {}


def test_check_knows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSION_PASSWORD", "open")
    monkeypatch.delenv("KASKAD_REDIS_URL", raising=False)
    file = tmp_path / "kaskad.toml"
    file.write_text(text_of(2775))
    (tmp_path / "prices.csv").write_text(
        "provider,prefix,category,cost,sell,currency,valid_from\nwire,,,1,2,EUR,2026-01-01\n"
    )
    assert app.run(["check", "--config", str(file)]) == 0
    assert "is good" in capsys.readouterr().out
    file.write_text(text_of(2775, 'api_key_env = "K"'))
    assert app.run(["check", "--config", str(file)]) == 2
    assert "providers.wire.api_key_env: is an unknown key" in capsys.readouterr().err


@asynccontextmanager
async def session_world(url: str, peer: Peer) -> AsyncIterator[tuple[DispatchWorld, Provider]]:
    """A world whose only provider is configured by a file and speaks to `peer`."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, peer, 0, host=HOST)
        (listener,) = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        settings = read(port)
        rules = bootstrap.policy_of(settings, lambda *_: PRICES["sms"])
        async with open_client(url) as redis:
            yield DispatchWorld(redis, url, rules, 1), bootstrap.connect_provider(settings, "wire")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("hang_ups", [0, 1])
def test_messages_go_out_and_receipts_come_in_over_its_session(
    redis_url: str, hang_ups: int
) -> None:
    """Also when the first session ends at once: its task is started again."""

    async def deliver() -> None:
        peer = Peer()
        peer.hang_ups = hang_ups
        async with session_world(redis_url, peer) as (w, provider):
            ids = await w.admit(25)
            async with dispatching(w, providers={"wire": provider}) as deps:
                await w.until(ids, "delivered")
                await w.until_true(lambda: len(peer.told("thanks")) == len(ids))
            assert [await w.status(id_) for id_ in ids] == ["delivered"] * len(ids)
            assert sorted(peer.told("send")) == sorted(f"{id_}.0" for id_ in ids)
            assert peer.told("hello") == ["open"] * (1 + hang_ups)
            applied = deps.metrics.receipts.labels("wire", "applied")
            assert applied._value.get() == len(ids)

    trio.run(deliver)


def test_a_receipt_that_cannot_be_applied_fails_no_other(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take(store: Store, provider: str, found: Sequence[Receipt], now_ms: int) -> Taken:
        if any(receipt.ref == "broken" for receipt in found):
            raise ZeroDivisionError
        return await take_receipts(store, provider, found, now_ms)

    async def deliver() -> None:
        async with dispatch_world(redis_url) as w:
            (id_,) = await w.admit()

            class Bringing(ScriptedProvider):
                async def run(self, receive: Receive) -> None:
                    await w.until([id_], "sent", "planned")
                    await receive(
                        [Receipt("delivered", "broken"), Receipt("delivered", f"{id_}.0")]
                    )

            providers = {"viber": Bringing("viber"), "sms": w.sms}
            async with dispatching(w, providers=providers) as deps:
                results = ("applied", "fault")
                counted = [deps.metrics.receipts.labels("viber", each) for each in results]
                await w.until([id_], "delivered", "skipped")
                # It is counted after it is in the store.
                await w.until_true(lambda: [each._value.get() for each in counted] == [1, 1])

    monkeypatch.setattr(receipts_job, "take_receipts", take)
    trio.run(deliver)
