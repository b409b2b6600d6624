"""`kaskad reconcile` over messages in a real Redis."""

from __future__ import annotations

import asyncio
import csv
import datetime
import json
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from python_calamine import CalamineWorkbook

from gateway.archive.archive import Archive
from gateway.archive.place import Folder
from gateway.archive.run import Run, RunLimits
from gateway.cli import app
from gateway.core.money.reconciliation import CLASSES, Ours
from gateway.core.policy import Policy
from gateway.finance.lines.lines import LinesQuery, pages_of_lines
from gateway.finance.question import FIRST_DAY, LAST_DAY, Query
from gateway.redis import asyncio_driver
from gateway.redis.client import RedisClient
from gateway.settings.bootstrap import load_prices, policy_of
from gateway.settings.file import Settings, load
from gateway.store.keys import keys_of
from gateway.store.store import Store
from gateway.store.writes import Retention
from tests.worlds.booked import PROVIDER, invoice, lines_of, send

COUNT = 8
LATER = 4_102_444_800_000  # than the clock of Redis
ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "invoices.md"
ID = re.compile(r"[0-9A-Z]{20}\.0")  # of a message's step, as a provider knows it
PRICE = "0.0088"  # of the shipped price list
Written = Callable[..., list[str]]


@pytest.fixture
def ours(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> list[Ours]:
    """What one provider was handed: the last was not delivered."""
    monkeypatch.setenv("KASKAD_REDIS_URL", redis_url)
    settings = load(None, os.environ, secrets_required=False)
    policy = policy_of(settings, load_prices(settings))

    async def work(redis: RedisClient) -> list[Ours]:
        return await lines_of(await send(redis, policy, COUNT, undelivered=1))

    found: list[Ours] = asyncio_driver.run(redis_url, work)
    assert [line.cost for line in found] == [8_800] * (COUNT - 1) + [0]
    return found


def words(folder: Path, text: str, *more: str) -> list[str]:
    file = folder / "invoice.csv"
    file.write_text(text)
    return ["reconcile", "--provider", PROVIDER, "--invoice", str(file), *more]


def test_an_invoice_that_agrees_ends_with_0(
    ours: list[Ours], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(words(tmp_path, invoice(ours), "--format", "json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["provider"], told["from"], told["to"]) == (PROVIDER, "2026-11-21", "2026-11-21")
    assert list(told["classes"]) == list(CLASSES)
    assert told["classes"]["matched"] == {
        "lines": COUNT - 1,
        "ours": "0.0616",
        "theirs": "0.0616",
        "difference": "0.0000",
    }
    assert told["items"] == []


def planted(ours: list[Ours]) -> str:
    """An invoice with one difference of every class."""
    changes: dict[int, dict[str, Any]] = {
        1: {"price": "0.0108"},
        2: {"price": "0.00880001"},
        3: {"parts": 2},
        6: {"network": "25002"},
        7: {"price": PRICE},  # which was not delivered
    }
    lines = invoice(ours, changes).splitlines()
    del lines[5]  # line 4 of ours
    lines += [lines[1], f"stranger,+79990000000,2026-11-21T12:01:00Z,1,{PRICE},,"]
    return "\n".join(lines)


def test_the_page_shows_what_the_command_prints(
    ours: list[Ours], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(words(tmp_path, planted(ours))) == 1
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert ID.sub("", shown) == ID.sub("", capsys.readouterr().out)


def test_what_differs_is_sorted_into_classes_and_ends_with_1(
    ours: list[Ours], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(words(tmp_path, planted(ours), "--json")) == 1
    told = json.loads(capsys.readouterr().out)
    counts = {kind: sums["lines"] for kind, sums in told["classes"].items() if sums["lines"]}
    assert counts == {
        "duplicate_line": 1,
        "unknown_to_us": 1,
        "missing_on_invoice": 1,
        "not_delivered_billed": 1,
        "network": 1,
        "parts": 1,
        "price": 1,
        "rounding": 1,
        "matched": 2,
    }
    assert told["classes"]["rounding"]["difference"] == "0.00000001"
    items = {item["class"]: item for item in told["items"]}
    assert [item["class"] for item in told["items"]] == [kind for kind in CLASSES if kind in items]
    assert items["price"] == {
        "class": "price",
        "line": 3,
        "id": ours[1].id,
        "message": ours[1].message,
        "step": 0,
        "to": ours[1].to,
        "at": "2026-11-21T12:01:00.000Z",
        "our_parts": 1,
        "their_parts": 1,
        "our_network": "25001",
        "their_network": None,
        "ours": "0.0088",
        "theirs": "0.0108",
        "difference": "0.0020",
    }
    assert items["missing_on_invoice"]["message"] == ours[4].message
    assert items["not_delivered_billed"]["ours"] == "0.0000"


def test_a_table_shows_the_classes_and_a_csv_every_line_that_differs(
    ours: list[Ours], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = invoice(ours, {n: {"price": "0.02"} for n in range(COUNT)})
    assert app.run(words(tmp_path, text)) == 1
    table = capsys.readouterr().out
    assert "infobip-viber, 2026-11-21 to 2026-11-21 (UTC), in EUR" in table
    assert "Another price" in table
    assert f"price: line 2, {ours[0].id}: ours 0.0088, theirs 0.0200" in table
    out = tmp_path / "claim.csv"
    assert app.run(words(tmp_path, text, "--format", "csv", "--out", str(out))) == 1
    assert capsys.readouterr().out == ""
    header, *rows = out.read_text().splitlines()
    assert header.startswith("class,line,id,message,step,to,at,our_parts")
    assert len(rows) == COUNT


def test_a_csv_has_amounts_below_zero_as_numbers(ours: list[Ours], tmp_path: Path) -> None:
    out = tmp_path / "claim.csv"
    text = invoice(ours, {0: {"price": "0.0001"}})
    assert app.run(words(tmp_path, text, "--format", "csv", "--out", str(out))) == 1
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["ours"], row["theirs"], row["difference"]) == ("0.0088", "0.0001", "-0.0087")


def test_days_narrow_the_invoice(
    ours: list[Ours], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = ("--from", "2026-11-22", "--to", "2026-11-30", "--json")
    assert app.run(words(tmp_path, invoice(ours), *later)) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["from"], told["to"], told["outside"]) == ("2026-11-22", "2026-11-30", COUNT - 1)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--provider", "infobop"], "--provider 'infobop' is not configured: there are infobip-v"),
        (["--format", "xml"], "use table, json, csv, xlsx"),
        (["--from", "yesterday"], "write it as 2026-11-30"),
        (["--from", "2026-12-01", "--to", "2026-11-01"], "--from is after --to"),
        (["--invoice", "/nowhere.csv"], "/nowhere.csv cannot be read: No such file"),
        (["--map", "infobop"], "Shipped maps are"),
    ],
)
def test_what_cannot_be_asked_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    assert app.run(words(tmp_path, invoice([]), *more)) == 2
    assert sentence in capsys.readouterr().err


def test_an_invoice_in_another_currency_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = tmp_path / "map.toml"
    how.write_text('currency = "USD"')
    assert app.run(words(tmp_path, invoice([]), "--map", str(how))) == 2
    assert "is in USD, and the ledger is in EUR" in capsys.readouterr().err


def test_an_accepted_invoice_is_what_we_booked_from_then_on(
    ours: list[Ours], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = invoice(ours, {n: {"price": "0.02"} for n in range(COUNT - 1)})
    assert app.run(words(tmp_path, text, "--accept", "--json")) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["accepted"] == {"lines": COUNT - 1, "booked": told["total"]["difference"]}
    assert app.run(words(tmp_path, text, "--accept")) == 0
    assert "Accepted: 0 lines of ours were adjusted" in capsys.readouterr().out
    assert app.run(["report", "verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["agrees"]


def test_what_is_kept_no_more_is_not_accepted(
    ours: list[Ours], redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "kaskad.toml"
    text = (ROOT / "config" / "kaskad.toml").read_text()
    config.write_text(text.replace('# messages = "30d"', 'messages = "1d"'))
    (tmp_path / "prices.csv").write_text((ROOT / "config" / "prices.csv").read_text())

    async def lapse(redis: RedisClient) -> None:
        await redis.call([("DEL", keys_of(0).message(ours[0].message))])

    asyncio_driver.run(redis_url, lapse)
    wish = words(tmp_path, invoice(ours), "--accept", "--config", str(config))
    assert app.run(wish) == 2
    assert "booked twice. Give --from 2026-11-22, and" in capsys.readouterr().err


def test_the_provider_is_sent_a_spreadsheet_with_numbers_in_it(
    ours: list[Ours], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = invoice(ours, {0: {"price": "0.02"}})
    out = tmp_path / "claim.xlsx"
    assert app.run(words(tmp_path, text, "--format", "xlsx", "--out", str(out))) == 1
    book = CalamineWorkbook.from_path(out)
    assert book.sheet_names == ["Classes", "Lines"]
    day = datetime.date(2026, 11, 21)
    classes = book.get_sheet_by_name("Classes").to_python()
    assert [PROVIDER, day, day, "price", 1, 0.0088, 0.02, 0.0112, "EUR"] in classes
    header, line = book.get_sheet_by_name("Lines").to_python()
    told = dict(zip(header, line, strict=True))
    assert (told["class"], told["line"], told["to"]) == ("price", 2, ours[0].to)
    assert told["at"] == datetime.datetime(2026, 11, 21, 12)  # noqa: DTZ001 - it has no zones


def test_a_spreadsheet_without_its_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    assert app.run(words(tmp_path, invoice([]), "--format", "xlsx")) == 2
    assert "kaskad[archive]" in capsys.readouterr().err


@pytest.fixture
def archiving(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The shipped configuration, with an archive."""
    monkeypatch.setenv("KASKAD_REDIS_URL", redis_url)
    config = tmp_path / "kaskad.toml"
    shipped = ROOT / "config"
    text = (shipped / "kaskad.toml").read_text()
    config.write_text(text.replace("[archive]\n", f'[archive]\nurl = "{tmp_path}/archive"\n'))
    (tmp_path / "prices.csv").write_text((shipped / "prices.csv").read_text())
    return load(config, os.environ, secrets_required=False)


async def archive(store: Store, settings: Settings) -> None:
    """Archives all there is, and takes it out of Redis."""
    folder = settings.archive.url
    kept = Archive(Folder(Path(folder)), folder, b"a key of the archive's hashes")
    await Run(store, kept, RunLimits(0), lambda: LATER, lambda: asyncio.sleep(0)).once()
    assert await lines_of(store) == []


def test_what_is_archived_is_ours_as_well(
    redis_url: str, archiving: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of ten messages five are in the archive and in Redis no more, and one is in both."""
    policy = policy_of(archiving, load_prices(archiving))

    async def work(redis: RedisClient) -> list[Ours]:
        store = await send(redis, policy, 6, retention=Retention(archives=True))
        lines = await lines_of(store)
        kept = keys_of(0).message(lines[0].message)
        record, *_ = await redis.call([("GET", kept)])
        await archive(store, archiving)
        await redis.call([("SET", kept, record)])
        return [*lines, *await lines_of(await send(redis, policy, 4, prefix="7917"))]

    ours = asyncio_driver.run(redis_url, work)
    config = ["--config", str(archiving.path)]
    text = invoice(ours[:6] + ours[-4:])
    assert app.run(words(tmp_path, text, "--json", *config)) == 0, capsys.readouterr()
    told = json.loads(capsys.readouterr().out)
    assert told["classes"]["matched"]["lines"] == 10


def test_without_its_folder_the_archive_is_missed_and_not_taken_for_empty(
    redis_url: str, archiving: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its messages were unknown to us, its lines in no export, and all its files sound."""
    policy = policy_of(archiving, load_prices(archiving))
    ours = asyncio_driver.run(redis_url, partial(sent_and_archived, archiving, policy))
    folder = Path(archiving.archive.url)
    away = folder.rename(tmp_path / "away")
    config = ["--config", str(archiving.path)]
    asked = (
        words(tmp_path, invoice(ours), *config),
        ["ledger", "export", "--from", "2026-11-01", "--to", "2026-11-30", *config],
        ["report", "verify", *config],
        ["archive", "verify", *config],
        ["copy", "--to", redis_url, *config],
    )
    for each in asked:
        assert app.run(each) == 1, each
        assert "There is no archive at " in capsys.readouterr().err
    away.rename(folder)
    *read, copy = asked
    for each in read:
        assert app.run(each) == 0, each
    assert app.run(copy) == 2
    assert "is not empty" in capsys.readouterr().err
    written = archiving.path
    written.write_text(written.read_text().replace(f'url = "{folder}"', ""))
    for each in read[:3]:
        assert app.run(each) == 2, each
        assert "is empty, and there is an archive" in capsys.readouterr().err


async def sent_and_archived(archiving: Settings, policy: Policy, redis: RedisClient) -> list[Ours]:
    store = await send(redis, policy, 3, retention=Retention(archives=True))
    lines = await lines_of(store)
    await archive(store, archiving)
    return lines


def test_what_an_invoice_changes_of_archived_messages_names_them(
    redis_url: str, archiving: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They come back into Redis for it, and the archive has them as they are then."""
    policy = policy_of(archiving, load_prices(archiving))

    ours = asyncio_driver.run(redis_url, partial(sent_and_archived, archiving, policy))
    dearer = invoice(ours, {0: {"price": "0.01"}, 2: {"price": "0.012"}})
    config = ["--config", str(archiving.path)]
    assert app.run(words(tmp_path, dearer, "--accept", "--json", *config)) == 1
    accepted = json.loads(capsys.readouterr().out)["accepted"]
    assert accepted == {"lines": 2, "booked": "0.0044"}

    async def end(redis: RedisClient) -> list[tuple[str | None, str, int]]:
        query = LinesQuery(Query(FIRST_DAY, LAST_DAY), frozenset(["adjust"]))
        pages = pages_of_lines(redis, 1, query, "EUR")
        lines = [line async for page in pages for _, line in page.lines]
        await archive(Store(redis, policy, retention=Retention(archives=True)), archiving)
        return [(line.message, line.app, line.amount) for line in lines]

    adjusted = asyncio_driver.run(redis_url, end)
    assert adjusted == [(ours[0].message, "shop", 1_200), (ours[2].message, "shop", 3_200)]
    assert app.run(words(tmp_path, dearer, "--accept", "--json", *config)) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["classes"]["matched"]["lines"] == 3
    assert told["accepted"] == {"lines": 0, "booked": "0.0000"}


def test_an_invoice_that_was_put_right_holds_before_the_archive_has_the_one_before(
    redis_url: str, archiving: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was accepted stands in Redis until the next run, and the archive tells what was."""
    policy = policy_of(archiving, load_prices(archiving))

    ours = asyncio_driver.run(redis_url, partial(sent_and_archived, archiving, policy))
    config = ["--config", str(archiving.path)]
    dearer = invoice(ours, {0: {"price": "0.01"}, 2: {"price": "0.012"}})

    def accept(text: str, *more: str) -> Any:
        code = app.run(words(tmp_path, text, "--accept", "--json", *more, *config))
        return code, json.loads(capsys.readouterr().out)

    assert accept(dearer)[1]["accepted"] == {"lines": 2, "booked": "0.0044"}
    code, told = accept(dearer)
    assert (code, told["classes"]["matched"]["lines"]) == (0, 3), "it is ours by now"
    code, told = accept(invoice(ours))
    assert (code, told["classes"]["price"]["difference"]) == (1, "-0.0044")
    assert told["accepted"] == {"lines": 2, "booked": "-0.0044"}
    by_part = tmp_path / "map.toml"
    by_part.write_text('line_is = "part"\n')
    code, told = accept(invoice(ours), "--map", str(by_part))
    assert (code, told["classes"]["matched"]["lines"]) == (0, 3)
