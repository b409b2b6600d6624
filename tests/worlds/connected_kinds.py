"""Every kind of provider as dispatch meets it: its port, connected to the simulator.

A row says which keys a kind needs to reach the simulator and how its people are addressed; the
suite says what any port must do. Adding a kind is adding one row to ROWS.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from providers.contract import (
    FcmAddress,
    Outcome,
    PersonReply,
    Provider,
    Receipt,
    Refused,
    SendFault,
    Submission,
    Submitted,
)
from providers.registry import KINDS
from providers.settings import Configured
from providers.simulator import Settings
from providers.simulator.browsers import HOST, subscribed
from tests.worlds import template
from tests.worlds.ports import free_port
from tests.worlds.provider_examples import submission
from tests.worlds.push_examples import SUBJECT, VAPID_KEY, google_key_pem, service_account
from tests.worlds.simulated import KNOBS, answers_of
from tests.worlds.simulator_webhook import Webhook

KEY = "a-key-of-more-than-thirty-two-characters"
FROM = "Магазин <news@shop.example>"


class World:
    """A simulator of all providers and a webhook for what they call back with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.smtp_port, self.smpp_port = free_port(), free_port()
        self.webhook = Webhook()

    @contextmanager
    def started(self) -> Iterator[World]:
        settings = Settings(
            api_key=KEY, knobs=KNOBS, smtp_port=self.smtp_port, smpp_port=self.smpp_port
        )
        with template.simulation(settings) as self.simulator:
            yield self
        self.webhook.close()

    def forget(self) -> None:
        """As it began, with people who are all reached."""
        self.simulator.reset()
        self.webhook.forget()
        everybody = {
            f"{channel}_{share}": value
            for channel in ("viber", "sms", "email")
            for share, value in (("delivered", 1.0), ("undelivered", 0.0))
        }
        reached = {f"{channel}_share": 1.0 for channel in ("viber", "email", "push")}
        hooks = {row.kind: f"{self.webhook.url}/{row.kind}" for row in ROWS}
        self.simulator.turn(**everybody, **reached, seen_share=0.0, hooks=hooks)

    async def told(self) -> None:
        """Lets all that is still to be reported reach us."""
        await trio.to_thread.run_sync(partial(self.simulator.flush, everything=True))


@dataclass(frozen=True)
class ConnectedRow:
    """One kind. `keys` are its settings; `person` how the nth one is addressed, `named` what the
    simulator calls that person. `keyless`: its requests carry no key that could be another's."""

    kind: str
    keys: Callable[[World], dict[str, Any]]
    person: Callable[[int], dict[str, Any]]
    named: Callable[[int], str]
    keyless: bool = False

    @property
    def channel(self) -> str:
        return KINDS[self.kind].channel

    def message(self, number: int, **changes: Any) -> Submission:
        """One to the nth person, of a reference of its own."""
        fields = {"message": f"{'M' * 19}{number}", **self.person(number), **changes}
        return submission(f"m-{number}.1", **fields)

    def messages(self, size: int) -> list[Submission]:
        return [self.message(number) for number in range(size)]

    def elsewhere(self, port: int) -> dict[str, Any]:
        """Keys that lead to another port of this machine."""
        names = KINDS[self.kind].settings.__struct_fields__
        return {"port": port} if "port" in names else {"base_url": f"http://127.0.0.1:{port}"}

    @property
    def impatient(self) -> dict[str, Any]:
        """Keys for answers that will not come."""
        names = KINDS[self.kind].settings.__struct_fields__
        return {"response_timeout_ms": 1_000} if "response_timeout_ms" in names else {}


class Connection:
    """One port, and what was received by it."""

    def __init__(self, row: ConnectedRow, world: World, key: str, **changes: Any) -> None:
        self._row = row
        self._world = world
        settings = KINDS[row.kind].settings(**({"kind": row.kind} | row.keys(world) | changes))
        secrets = {"KEY": key, "VAPID": VAPID_KEY, "USER": "kaskad"}
        self._configured = Configured(
            name=row.kind,
            settings=settings,
            secret=lambda variable: secrets.get(variable or "", ""),
            callback_url=f"{world.webhook.url}/{row.kind}",
        )
        self.port: Provider = KINDS[row.kind].connect(self._configured)
        self._brought: list[Receipt] = []

    async def receive(
        self,
        receipts: Sequence[Receipt],
        replies: Sequence[PersonReply] = (),
        late: Sequence[Submitted | Refused] = (),
    ) -> None:
        self._brought += receipts

    async def sent(self, *batches: Sequence[Submission]) -> list[Outcome | SendFault]:
        """What each message came to, or each batch as a whole."""
        return await answers_of(self.port, *batches)

    async def sent_all(self, messages: Sequence[Submission]) -> list[Outcome | SendFault]:
        """The same, in batches as large as the port takes."""
        size = self.port.batch_max
        starts = range(0, len(messages), size)
        return await self.sent(*(messages[start : start + size] for start in starts))

    async def receipts(self) -> list[Receipt]:
        """All that the provider reports of what it took, by whichever way."""
        await self._world.told()
        make = KINDS[self._row.kind].callbacks
        reader = make(self._configured) if make is not None else None
        called: list[Receipt] = []
        for post in self._world.webhook.posts:
            assert reader is not None, "nobody reads these"
            assert post.path.partition("?")[0] == f"/{self._row.kind}"
            read = reader.receipts(post.body, post.headers.get("content-type", ""))
            assert read.faults == []
            called += read.receipts
        return [*self._brought, *called]


@asynccontextmanager
async def connected(
    row: ConnectedRow, world: World, *, key: str = KEY, **changes: Any
) -> AsyncIterator[Connection]:
    connection = Connection(row, world, key, **changes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.port.run, connection.receive)
        yield connection
        nursery.cancel_scope.cancel()
    await connection.port.aclose()


def _http(world: World) -> dict[str, Any]:
    return {
        "sender": "Shop",
        "base_url": world.simulator.base_url,
        "api_key_env": "KEY",
        "callback_token_env": "KEY",
    }


def _vonage(world: World) -> dict[str, Any]:
    key_file = world.folder / "vonage.pem"
    key_file.write_bytes(google_key_pem())
    return {**_http(world), "application_id": "app-1", "private_key_file": str(key_file)}


def _phone(number: int) -> str:
    return f"7916000000{number}"


def _by_phone(
    kind: str, keys: Callable[[World], dict[str, Any]] = _http, *, keyless: bool = False
) -> ConnectedRow:
    person = lambda number: {"to": f"+{_phone(number)}"}  # noqa: E731
    return ConnectedRow(kind, keys, person, _phone, keyless)


def _mailbox(number: int) -> str:
    return f"p{number}@example.com"


def _by_mail(kind: str, keys: Callable[[World], dict[str, Any]]) -> ConnectedRow:
    person = lambda number: {"to": _mailbox(number), "from_": None, "sender": FROM}  # noqa: E731
    return ConnectedRow(kind, keys, person, _mailbox)


def _device(number: int) -> str:
    return f"device-{number}"


ROWS: Sequence[ConnectedRow] = (
    _by_phone("infobip-viber"),
    _by_phone("infobip-sms"),
    _by_phone("smsc-ru"),
    _by_phone(
        "smpp",
        lambda world: {
            "sender": "Shop",
            "host": "127.0.0.1",
            "port": world.smpp_port,
            "system_id": "kaskad",
            "password_env": "KEY",
        },
    ),
    _by_phone("twilio-sms", lambda world: {**_http(world), "account_sid": "AC" + "0" * 32}),
    _by_phone("vonage-sms", _vonage, keyless=True),
    _by_phone("vonage-viber", _vonage, keyless=True),
    _by_mail("unisender-go", lambda world: {**_http(world), "from_": FROM, "sender": ""}),
    _by_mail(
        "smtp",
        lambda world: {
            "host": "127.0.0.1",
            "port": world.smtp_port,
            "tls": "none",
            "user_env": "USER",
            "password_env": "KEY",
            "from_": FROM,
            "events": "postmark",
            "callback_token_env": "KEY",
        },
    ),
    ConnectedRow(
        "fcm",
        lambda world: {
            "sender": "",
            "service_account_file": str(
                service_account(world.folder, world.simulator.base_url + "/token")
            ),
            "base_url": world.simulator.base_url,
        },
        lambda number: {"to": "", "devices": (FcmAddress(_device(number)),)},
        _device,
        keyless=True,
    ),
    ConnectedRow(
        "webpush",
        lambda world: {
            "sender": "",
            "vapid_key_env": "VAPID",
            "subject": SUBJECT,
            "hosts": (HOST,),
            "base_url": world.simulator.base_url,
        },
        lambda number: {"to": "", "devices": (subscribed(_device(number)),)},
        _device,
        keyless=True,
    ),
)
