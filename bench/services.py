"""The scenarios of providers that are spoken to in other ways than by a request with many messages.

As those in `scenarios` are.
"""

from __future__ import annotations

from typing import Any

from bench.measure import Mark, Row, post, row, spec_for
from bench.shared import Bench
from bench.sizes import SINGLE_CONNECTIONS, SMPP_WINDOW
from bench.world import MAILED, NOTIFIED, TEXTED

ONE_PART = "Скидка 30% на всё до воскресенья. Отписаться: СТОП"  # one PDU


def texts(bench: Bench) -> list[Row]:
    """9: SMS of one part by SMPP over one bind, and a receipt for each, as many of which are under
    way as messages. One that outruns the record of its answer is matched a second later, so that
    the ledger says when all is over."""
    count, warm = bench.sizes.messages, bench.sizes.warm
    name = f"SMPP, one bind of window {SMPP_WINDOW}"
    how: dict[str, Any] = {"mode": "stream", "connections": 1, "route": TEXTED, "text": ONE_PART}
    with (
        bench.world(texts=True, knobs={"push_connections": SMPP_WINDOW}) as world,
        bench.progress(f"9 {name}", warm + count) as progress,
    ):
        post(world, spec_for(world, messages=warm, **how))
        world.await_ledger(warm)
        begin, result = post(world, spec_for(world, messages=count, first=warm, **how))
        world.await_provider(warm + count, progress)
        world.await_ledger(warm + count)
        found = row("9", name, count, begin, Mark(world), result)
        found.ledger = world.reconcile(warm + count)
    return [found]


def mails(bench: Bench) -> list[Row]:
    """10: e-mails by SMTP, over connections that each take one mail after the other."""
    how = {"mailboxes": True, "route": MAILED}
    return [_unreported(bench, "10", "SMTP", how, mails=True)]


def notifications(bench: Bench) -> list[Row]:
    """11: notifications by FCM, one device a message and one message a request."""
    how = {"devices": True, "route": NOTIFIED}
    return [_unreported(bench, "11", "FCM", how, notifies=True)]


def _unreported(bench: Bench, number: str, service: str, how: dict[str, Any], **plan: Any) -> Row:
    """A provider that takes one message at a time and reports nothing."""
    count, warm = bench.sizes.single, bench.sizes.warm
    name = f"{service}, {SINGLE_CONNECTIONS} connections"
    how = {"mode": "stream", "connections": 1, **how}
    with (
        bench.world(connections=SINGLE_CONNECTIONS, **plan) as world,
        bench.progress(f"{number} {name}", warm + count) as progress,
    ):
        post(world, spec_for(world, messages=warm, **how))
        world.await_ledger(warm)
        begin, result = post(world, spec_for(world, messages=count, first=warm, **how), progress)
        world.await_ledger(warm + count)
        found = row(number, name, count, begin, Mark(world), result)
        world.await_provider(warm + count)
        found.ledger = world.reconcile(warm + count)
    return found
