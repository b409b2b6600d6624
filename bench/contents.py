"""What a waiting message takes in Redis, with its own text and with its campaign's.

    python -m bench.contents                     half a minute
    python -m bench.contents --messages 2000     does it still run?

Messages of a campaign that is paused are accepted by the store, once with their texts whole and
once with their vars, and counted are the bytes that Redis holds more for each (its memory, without
buffers): record, place in the queue, timer, claim, person, index, events and ledger. Markdown;
docs/scaling.md has it. A message that is not accepted is a BenchFailed, exit code 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.processes import BenchFailed
from bench.redis_server import RedisServer
from gateway.core.addresses import Addresses
from gateway.core.campaign_words import drafts_of, pack_words, unpack_words
from gateway.core.campaigns import Campaign
from gateway.core.policy import CategoryRule, Policy, ProviderRule, RouteStep
from gateway.core.prices import Price
from gateway.core.records.content import NO_WORDS
from gateway.core.records.request import MessageRequest
from gateway.ingress.api.sayings import sayings_of
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.store import declarations
from gateway.store.audit import Deed
from gateway.store.base import BATCH_MAX
from gateway.store.keys import keys_of
from gateway.store.store import Store

MESSAGES = 20_000
NOW_MS = 4_102_444_800_000  # far ahead: Redis drops by its own clock what is over
DAY_MS = 86_400_000
VARS = {"name": "Александра", "code": "AUTUMN-7QX4"}
BUTTON = {"caption": "В магазин", "url": "https://shop.example/sale?c={{code}}"}
LATIN = "{{name}}, your order is on its way. Code {{code}}."
CYRILLIC = "{{name}}, осень уже здесь: скидка 20 % до воскресенья по коду {{code}}. " * 4
PAGE = "<p>{{name}}</p>" + "<p>Скидка 20 % на всё до воскресенья, приходите!</p>" * 60
CONTENTS: Mapping[str, dict[str, Any]] = {
    "a line of Latin": {"text": LATIN},
    "300 Cyrillic characters": {"text": CYRILLIC},
    "the same, with picture and button": {
        "text": CYRILLIC,
        "viber": {"image_url": "https://shop.example/autumn.png", "button": BUTTON},
    },
    "an e-mail of 5 KB beside it": {
        "text": CYRILLIC,
        "email": {"subject": "{{name}}, осень", "html": PAGE},
    },
}
STEPS = (RouteStep(("viber",), 900_000, 10_000), RouteStep(("sms",), DAY_MS, 10_000))
POLICY = Policy(
    routes={"both": STEPS},
    categories={"marketing": CategoryRule("both", 3 * DAY_MS)},
    providers={name: ProviderRule(name) for name in ("viber", "sms")},
    caps=(),
    slot_ms={},
    dedupe_ms=30 * DAY_MS,
    currency="EUR",
    quote=lambda *_: Price(5_000, 9_000, "EUR"),
)


async def accept(redis: RedisClient, content: dict[str, Any], count: int, *, whole: bool) -> None:
    """Has them accepted, with their texts whole or by reference."""
    store = Store(redis, POLICY)
    words = unpack_words(msgspec.json.encode({"content": content}))

    def decide(_: Campaign | None, _words: bytes) -> tuple[Campaign, bytes]:
        return Campaign(state="paused"), b"" if whole else pack_words(words)

    deed = Deed(NOW_MS, "bench", "campaign.put", "autumn")
    await declarations.change(redis, 1, "autumn", decide, lambda _: deed)
    await store.look_at_campaigns()
    sayings, faults = sayings_of(NO_WORDS, VARS, drafts_of(words), POLICY.app("shop"))
    if faults:
        raise BenchFailed(faults[0].detail)
    for start in range(0, count, BATCH_MAX):
        wanted = [
            MessageRequest(
                id=store.new_message_id(to, NOW_MS),
                app="shop",
                addresses=Addresses(to),
                country="RU",
                category="marketing",
                campaign="autumn",
                content=sayings[0].content if whole else NO_WORDS,
                sayings=() if whole else sayings,
            )
            for to in (f"7916{n:07}" for n in range(start, min(start + BATCH_MAX, count)))
        ]
        answers = await store.admit(wanted, NOW_MS)
        if {answer.outcome for answer in answers} != {"accepted"}:
            raise BenchFailed(f"A message was not accepted: {answers[0]}.")


def measure(server: RedisServer, content: dict[str, Any], count: int, *, whole: bool) -> list[int]:
    """Bytes a message: of its record, and of everything."""
    server.client.flushall()
    before = server.data_bytes()
    run(server.url, lambda redis: accept(redis, content, count, whole=whole))
    record = next(server.client.scan_iter(match=keys_of(0).message("*"), count=1_000))
    usage: Any = server.client.memory_usage(record)
    return [int(usage), (server.data_bytes() - before) // count]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=MESSAGES)
    count = parser.parse_args(arguments).messages
    print(
        "| what it says | record, own text | by reference | everything, own text | by reference |"
    )
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder) / "redis", dict(os.environ))
        try:
            server.await_ready()
            for name, content in CONTENTS.items():
                whole = measure(server, content, count, whole=True)
                referred = measure(server, content, count, whole=False)
                print(f"| {name} | {whole[0]} | {referred[0]} | {whole[1]} | {referred[1]} |")
        except BenchFailed as failed:
            print(failed, file=sys.stderr)
            return 1
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
