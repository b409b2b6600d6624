"""E-mails by SMTP, from a table in a file over a dispatcher to a mail server."""

from __future__ import annotations

import email
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.policy import default
from pathlib import Path
from typing import Any

import trio

from gateway.core.addresses import Addresses
from gateway.core.channels import EmailContent
from gateway.core.people.reach import is_unreachable
from gateway.core.records.content import content_with
from gateway.core.records.person import unpack_person
from gateway.core.records.unsubscriber import Unsubscriber
from gateway.redis.trio_driver import open_client
from gateway.settings import bootstrap
from gateway.settings.file import parse
from gateway.store.keys import keys_of
from gateway.store.messages.receipts import take_receipts
from gateway.store.people import unsubscribing
from providers.contract import Receipt
from tests.worlds.cascade_world import PRICES
from tests.worlds.dispatch_world import DispatchWorld, dispatching
from tests.worlds.mail_server import MailServer, mail_server

CONFIG = """
[providers.mail]
kind = "smtp"
host = "127.0.0.1"
port = {port}
tls = "none"
from = "Магазин <news@shop.example>"
retry_delay = "1ms"
{more}
[routes.r]
steps = [{{ provider = "mail", wait = "2h" }}]
[categories.marketing]
route = "r"
"""
ANNA = Addresses(email="anna@xn--e1afmkfd.xn--p1ai")
SAID = content_with("Здравствуйте!", {"email": EmailContent(subject="Скидки")})
EVENTS = 'events = "postmark"\ncallback_token_env = "T"'


@asynccontextmanager
async def mailing(
    url: str, server: MailServer, more: str = "", **changes: Any
) -> AsyncIterator[tuple[DispatchWorld, str]]:
    """One message to Anna, and a dispatcher that sends it."""
    settings = parse(CONFIG.format(port=server.port, more=more), Path("/k.toml"), {"T": "t0k"})
    rules = bootstrap.policy_of(settings, lambda *_: PRICES["sms"])
    async with open_client(url) as redis:
        world = DispatchWorld(redis, url, rules, 1)
        provider = bootstrap.connect_provider(settings, "mail")
        (id_,) = await world.admit(**({"addresses": ANNA, "content": SAID} | changes))
        async with dispatching(world, providers={"mail": provider}):
            yield world, id_
        await provider.aclose()


def test_a_mail_counts_as_delivered_when_the_server_took_it(redis_url: str) -> None:
    async def deliver() -> None:
        async with mail_server() as server, mailing(redis_url, server) as (world, id_):
            await world.until([id_], "delivered")
            step = (await world.message(id_)).step
            assert (step.billed, step.attempts[0].tries) == (PRICES["sms"].sell, 1)
        (octets,) = server.mails
        read = email.message_from_bytes(octets, policy=default)
        assert read["To"] == ANNA.email
        assert read["From"] == "Магазин <news@shop.example>"
        assert read["Message-ID"] == f"<{id_}.0@shop.example>"
        assert (read["Subject"], read.get_content().strip()) == ("Скидки", "Здравствуйте!")

    trio.run(deliver)


def test_with_events_it_counts_when_they_say_so(redis_url: str) -> None:
    async def deliver() -> None:
        async with (
            mail_server() as server,
            mailing(redis_url, server, EVENTS) as (world, id_),
        ):
            await world.until([id_], "sent")
            assert f"X-PM-Metadata-kaskad: {id_}.0".encode() in server.mails[0]
            receipt = Receipt("delivered", f"{id_}.0")
            await take_receipts(world.store, "mail", [receipt], world.clock())
            await world.until([id_], "delivered")

    trio.run(deliver)


def test_a_bounce_after_that_changes_whom_it_reaches_and_not_the_bill(redis_url: str) -> None:
    async def deliver() -> None:
        async with mail_server() as server, mailing(redis_url, server) as (world, id_):
            await world.until([id_], "delivered")
            before = (await world.message(id_)).billed
            bounce = Receipt("undelivered", f"{id_}.0", unreachable=True)
            await take_receipts(world.store, "mail", [bounce], world.clock())
            message = await world.message(id_)
            assert (await world.steps(id_), message.billed) == (["delivered"], before)
            (kept,) = await world.redis.call([("GET", keys_of(0).person(f"e:{ANNA.email}"))])
            assert isinstance(kept, bytes)
            person = unpack_person(kept)
            assert is_unreachable([person], "email", ANNA, world.store.policy, world.clock())

    trio.run(deliver)


def test_a_greylisted_mail_goes_again_under_the_same_id_and_a_lost_one_does_not(
    redis_url: str,
) -> None:
    async def deliver() -> None:
        async with mail_server(says={"RCPT": ["451 4.7.1 greylisted"]}) as server:
            async with mailing(redis_url, server) as (world, id_):
                await world.until([id_], "delivered")
            assert f"Message-ID: <{id_}.0@shop.example>".encode() in server.mails[0]
        async with mail_server(says={"END": [""]}) as server:
            async with mailing(redis_url, server, campaign="winter") as (world, id_):
                await world.until([id_], "unknown")
            assert len(server.mails) == 1

    trio.run(deliver)


def test_marketing_can_be_unsubscribed_from_with_one_click(redis_url: str) -> None:
    own_domain = '[links]\nbase_url = "https://k.shop.example"'
    said = content_with("Стоп: {{unsubscribe}}", {"email": EmailContent(subject="Скидки")})

    async def deliver() -> None:
        async with (
            mail_server() as server,
            mailing(redis_url, server, own_domain, content=said) as (world, id_),
        ):
            await world.until([id_], "delivered")
            read = email.message_from_bytes(server.mails[0], policy=default)
            url = read["List-Unsubscribe"].strip("<>")
            assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
            assert read.get_content().strip() == f"Стоп: {url}"
            root, _, code = url.rpartition("/")
            assert root == "https://k.shop.example/u"
            who = await unsubscribing.find(world.store, code)
            assert who == Unsubscriber("email", f"{ANNA.email}")

    trio.run(deliver)
