"""The questions of docs/analytics.md, asked of an archive as they stand there."""

from __future__ import annotations

import csv
import os
import re
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from gateway.core.archive.hashing import hash_of
from gateway.core.money.days import Days
from providers.contract import Fault
from tests.archive.test_clicks import click, poster
from tests.worlds.archive_world import KEY, ArchiveWorld, with_archive

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs/analytics.md").read_text()
VIEWS, *QUESTIONS, EXPORT = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.DOTALL)
MONEY = re.compile(r"-?[0-9]+\.[0-9]{6}").fullmatch


@with_archive(shards=2)
async def test_every_question_is_answered(world: ArchiveWorld) -> None:
    await world.delivered(4)
    await world.refused("winter", Fault("EC_ABSENT", "EC_ABSENT", True), Fault("7", "7", True))
    await world.archived()
    late = await world.delivered(1, "late")
    await world.archived()
    await click(world, poster("autumn"), times=3)
    await click(world, poster("autumn"), "previewer", times=2)
    await world.tell(late, "seen")
    await world.archived()
    stray = world.root / "ledger/day=2100-01-01" / f"{'0' * 32}.parquet"
    stray.write_bytes(next(world.root.glob("ledger/*/*.parquet")).read_bytes())

    with pytest.MonkeyPatch.context() as patch, duckdb.connect(":memory:") as database:
        patch.chdir(world.root)
        database.execute(VIEWS)
        money, by_country, times, faults, people, clicked, hours = [
            database.execute(question).fetchall() for question in QUESTIONS
        ]
        database.execute(EXPORT)

    (cost, billed) = await totals(world)
    assert [row[1:] for row in money] == [("shop", "EUR", cost, billed)]
    assert [row[:5] for row in by_country] == [("RU", "viber", "EUR", cost, 5)]
    assert by_country[0][5] == pytest.approx(float(cost) / 5)
    assert times == [("viber", 5, [0.0, 0.0])]
    assert sorted(faults) == [
        ("sms", "rejected", "7", 1),
        ("viber", "rejected", "EC_ABSENT", 1),
    ]
    assert people == [(1, 3), (3, 1)]
    assert clicked == [
        ("autumn", None, False, "phone", 2, 0),
        ("autumn", None, True, "phone", 3, 0),
    ]
    assert hours == [(Days("Europe/Moscow").hour_of(world.now_ms), "seen", 1)]
    with (world.root / "costs.csv").open() as file:
        (exported,) = csv.DictReader(file)
    assert MONEY(exported["cost"])
    assert Decimal(exported["cost"]) == cost


async def totals(world: ArchiveWorld) -> tuple[Decimal, Decimal]:
    """Cost and billed, as the manifest has them."""
    sums: list[Any] = [
        each.sums.get("EUR", {}) for each in world.archive.files() if each.table == "ledger"
    ]
    cost, billed = (
        sum((Decimal(each.get(name, "0")) for each in sums), Decimal(0))
        for name in ("cost", "billed")
    )
    return cost, billed


def test_a_persons_hash_is_what_the_command_prints() -> None:
    (command,) = re.findall(r"`(printf p:.*)`\.", DOCUMENT)
    shown = subprocess.run(
        ["sh", "-c", command],
        env=os.environ | {"KASKAD_ARCHIVE_KEY": KEY.decode()},
        capture_output=True,
        check=True,
        text=True,
    )
    assert shown.stdout.strip() == hash_of(KEY, "p:79161234567")
