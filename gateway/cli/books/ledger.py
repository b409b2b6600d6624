"""`kaskad ledger export`: the lines of the ledger as a file.

What a line is stands in `gateway.finance.lines.lines`. How many are written is told on stderr where
somebody is looking. A question that cannot be answered is a ReportFault, a format without its
library a MissingExtra: both are exit 2.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

from gateway.cli.archive import archived_ledger
from gateway.cli.books.reports import CostQuestion
from gateway.cli.failures import DONE
from gateway.cli.output import check_form, output
from gateway.cli.progress import counting
from gateway.cli.reach import redis_for_command
from gateway.finance.lines.line_files import FORMATS, TEXTS, LineFile, open_line_file
from gateway.finance.lines.lines import LinesQuery, pages_of_lines
from gateway.finance.question import parse_query
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.settings.bootstrap import days_of
from gateway.settings.file import Settings, load


def export(
    config: Path | None,
    environment: Mapping[str, str],
    question: CostQuestion,
    form: str,
    out: Path | None,
) -> int:
    """Writes the lines of a report's question."""
    check_form(form, FORMATS)
    settings = load(config, environment, secrets_required=False)
    today = days_of(settings).of(time.time_ns() // 1_000_000)
    query = LinesQuery(parse_query(question.parameters(), today))
    with output(out, binary=form not in TEXTS) as place:
        file = open_line_file(form, place)
        with redis_for_command(settings) as url:
            run(url, lambda redis: _write(redis, settings, query, file))
        file.close()
    return DONE


async def _write(redis: RedisClient, settings: Settings, query: LinesQuery, file: LineFile) -> None:
    shards, currency = settings.redis.shards, settings.prices.currency
    archived = await archived_ledger(settings, redis)
    pages = pages_of_lines(
        redis, shards, query, currency, days=days_of(settings), archived=archived
    )
    with counting() as shown:
        written = shown.stage("Written")
        async with aclosing(pages):
            async for page in pages:
                file.write([line for _, line in page.lines])
                written(len(page.lines))
