"""What prices and the ledger's lines cost: a price list of many rows read and asked, and lines of
the ledger read, exported and added up against the totals.

    python -m bench.books                     about a minute on two cores
    python -m bench.books --lines 5000000     some minutes, and 0.5 GB

One line a figure, in seconds or microseconds of CPU of this process, so that a busy machine changes
little; what Redis does meanwhile is not in them.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from msgspec.structs import replace

from gateway.core.policy import Policy
from gateway.core.records.entries import Group, Post
from gateway.finance.line_files import open_line_file
from gateway.finance.lines import LinesQuery, pages_of_lines
from gateway.finance.price_check import doubts
from gateway.finance.question import Query
from gateway.finance.verify import verify_ledger
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.settings.price_file import COLUMNS, NETWORK, parse_prices
from gateway.store.campaigns import Campaigns
from gateway.store.keys import keys_of
from gateway.store.lines import Lines
from gateway.store.queues import Queues
from gateway.store.writes import Retention, Writes

ROWS = 50_000
LINES = 500_000
QUOTES = 100_000
POSTS_A_COMMIT = 50
AMOUNTS_A_POST = 2  # a cost and a bill: so many lines
DAYS = 10
TODAY = datetime.date(2026, 11, 21)
NOON_MS = 1_795_262_400_000
DAY_MS = 86_400_000
POLICY = Policy(
    routes={},
    categories={},
    providers={},
    caps=(),
    dedupe_ms=DAY_MS,
    slot_ms={},
    currency="EUR",
    quote=lambda *_: None,
)


def tell(what: str, figure: float, unit: str) -> None:
    print(f"| {what} | {figure:,.2f} {unit} |", flush=True)


def measure_prices(random: Random) -> None:
    lines = [",".join((*COLUMNS, NETWORK))]
    lines += [
        f"sms,{prefix},,0.0{prefix % 900 + 100},0.1,EUR,2026-01-01,"
        for prefix in random.sample(range(1, 10_000_000), ROWS)
    ]
    began = time.process_time()
    book = parse_prices("\n".join(lines), "EUR")
    tell(f"a price list of {ROWS:,} rows is read", time.process_time() - began, "s")
    began = time.process_time()
    book.quote("sms", "79161234567", "otp", TODAY)
    tell("the first quote of a day", time.process_time() - began, "s")
    phones = [str(random.randint(10**10, 10**11)) for _ in range(QUOTES)]
    began = time.process_time()
    for phone in phones:
        book.quote("sms", phone, "otp", TODAY)
    tell("each further quote", (time.process_time() - began) * 1e6 / QUOTES, "µs")
    began = time.process_time()
    doubts(book, ["sms"], TODAY)
    tell("it is checked", time.process_time() - began, "s")


async def fill(redis: RedisClient, lines: int, random: Random) -> None:
    """Deliveries, a cost and a bill each, over DAYS days."""
    campaigns = Campaigns(10_000)
    commits = lines // (POSTS_A_COMMIT * AMOUNTS_A_POST)
    for number in range(commits):
        now_ms = NOON_MS - DAYS * DAY_MS + DAYS * DAY_MS * number // commits
        writes = Writes(keys_of(0), POLICY, Retention(), campaigns, Lines(), Queues(), now_ms)
        for n in range(POSTS_A_COMMIT):
            campaign = f"campaign-{random.randint(1, 20)}"
            group = Group("shop", campaign, "marketing", "sms", "main", "RU", "sms-only", 0)
            measures = {"delivered": 1, "parts": 1, "cost": 40_000, "billed": 70_000}
            message = f"1M7Q5CQG{number:010d}{n:02d}"
            writes.post(Post(group, measures, message, 0, {"list": 40_000, "charged": 40_000}))
        await writes.learn(redis)
        await redis.call([("MULTI",), *writes.commands(), ("EXEC",)])


async def count_lines(redis: RedisClient, query: Query) -> int:
    pages = pages_of_lines(redis, 1, LinesQuery(query), "EUR")
    return sum([len(page.lines) async for page in pages])


async def export(redis: RedisClient, query: Query, form: str, path: Path) -> None:
    with path.open("wb") as file:
        lines = open_line_file(form, file)
        async for page in pages_of_lines(redis, 1, LinesQuery(query), "EUR"):
            lines.write([line for _, line in page.lines])
        lines.close()


async def measure_lines(redis: RedisClient, lines: int, folder: Path) -> None:
    await fill(redis, lines, Random(1))
    whole = Query(TODAY - datetime.timedelta(days=DAYS), TODAY)
    one_day = Query(TODAY - datetime.timedelta(days=5), TODAY - datetime.timedelta(days=5))
    one_campaign = replace(whole, filters=(("campaign", "campaign-7"),))
    asked = {"all": whole, "of one day": one_day, "of one campaign": one_campaign}
    for what, query in asked.items():
        began = time.process_time()
        found = await count_lines(redis, query)
        spent = time.process_time() - began
        tell(f"lines {what}: {found:,} of {lines:,} are read", spent, "s")
    for form in ("csv", "ndjson", "parquet", "xlsx"):
        path = folder / f"lines.{form}"
        began = time.process_time()
        await export(redis, whole, form, path)
        spent = time.process_time() - began
        tell(f"all as {form}, {path.stat().st_size / lines:.0f} bytes a line", spent, "s")
    began = time.process_time()
    verdict = await verify_ledger(redis, 1, full=True)
    tell(f"{verdict.posts:,} bookings are verified", time.process_time() - began, "s")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=LINES)
    lines = parser.parse_args(arguments).lines
    measure_prices(Random(1))
    with (
        tempfile.TemporaryDirectory(prefix="kaskad-") as name,
        EmbeddedRedis(name, "everysec") as redis,
    ):
        run(redis.url, lambda client: measure_lines(client, lines, Path(name)))


if __name__ == "__main__":
    main()
