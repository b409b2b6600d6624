"""The command line's words: exit codes, sentences, help, and nothing heavy loaded for it."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway import crew, telemetry
from gateway.cli import app, failures
from gateway.cli.books.reports import CostQuestion
from gateway.cli.failures import UsageFault
from gateway.cli.operators.check import faults_of
from gateway.cli.operators.keys import scopes_of
from gateway.cli.roles import roles
from gateway.core.records.webhook import Webhook
from gateway.core.webhooks import DEAD_MS
from gateway.dispatch.metrics import DispatchMetrics
from gateway.redis import asyncio_driver
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisUnavailable
from gateway.redis.server import binary
from gateway.redis.server.embedded import EmbeddedRedis, EmbeddedRedisError
from gateway.settings.bootstrap import load_prices, policy_of
from gateway.settings.file import load
from gateway.store import quarantine
from gateway.store.copies import copying
from gateway.store.copies.sides import Side
from gateway.store.events import webhook_queues, webhooks
from gateway.store.installation import audit, installation, snapshots
from gateway.store.installation.installation import Copied
from gateway.store.keys import keys_of
from gateway.store.money import scheduled_reports
from gateway.store.money.scheduled_reports import ScheduleState
from gateway.store.money.totals import LedgerFault
from gateway.store.shared_keys import API_KEYS, PAUSED, PROVIDERS
from gateway.store.store import Store
from gateway.version import VERSION
from tests.worlds.cascade_world import request

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {
    "KASKAD_SHOP_KEY": "shop-key-for-the-tests",
    "INFOBIP_API_KEY": "provider-key",
    "INFOBIP_CALLBACK_TOKEN": "callback-token",
}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a configuration of its own, whose embedded Redis has a short path."""
    with tempfile.TemporaryDirectory(prefix="kaskad-") as name:
        folder = Path(name)
        for file in ("kaskad.toml", "prices.csv"):
            (folder / file).write_text((ROOT / "config" / file).read_text())
        monkeypatch.setenv("KASKAD_CONFIG", str(folder / "kaskad.toml"))
        monkeypatch.delenv("KASKAD_REDIS_URL", raising=False)
        monkeypatch.delenv(failures.DEBUG, raising=False)
        for variable, value in SECRETS.items():
            monkeypatch.setenv(variable, value)
        yield folder


def edit(folder: Path, old: str, new: str) -> None:
    file = folder / "kaskad.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


# --- misuse ---


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing"], "No such command 'nothing'. See `kaskad --help`."),
        (["serve", "--prot", "1"], "No such option: --prot"),
        (["serve", "--port", "many"], "Invalid value for '--port'"),
        (["demo", "--messages", "0"], "Invalid value for '--messages'"),
        (["key", "new"], "Missing option '--app'. See `kaskad key new --help`."),
        (["report", "cost", "--format", "xml"], "use table, json, csv"),
        (["report", "cost", "--from", "yesterday"], "write it as in 2026-11-30"),
        (["report", "cost", "--group-by", "moon"], "its keys are: day, month, app"),
        (["report", "cost", "--where", "moon"], "write KEY=VALUE"),
        (["key", "new", "--app", "shop", "--scope", "fly"], "name some of send, read, report"),
        (["key", "new", "--app", "a b"], "cannot be an app's name"),
        (["key", "new", "--app", "shop", "--expires", "soon"], "write a whole number and ms, s"),
        (["key", "new", "--app", "shop", "--expires", ""], "write a whole number and ms, s"),
        (["key", "new", "--app", "shop", "--expires", "0d"], "--expires: it would be over at once"),
        (["key", "new", "--app", "shop", "--name", "a\nb"], "characters that can be printed"),
        (["key", "revoke"], "Missing argument 'ID'"),
        (["dispatch"], "or run `kaskad up`"),
        (["simulate", "--knob", "loud"], "write it as name=value"),
        (["simulate", "--knob", "loud=1"], "There is no such knob"),
        (["simulate", "--knob", "seen_share=2"], "seen_share"),
        (["simulate", "--people", str(ROOT / "README.md")], f"start: {ROOT / 'README.md'}: Exp"),
        (["simulate", "--people", "/nowhere.toml"], "start: /nowhere.toml: cannot be read: No"),
        (["simulate", "--smtps-port", "465"], "needs the folder of a certificate"),
        (["check", "--config", "/nowhere.toml"], "error: /nowhere.toml: cannot be read"),
        (["up", "--config", "/nowhere.toml"], "/nowhere.toml: cannot be read"),
        (["demo", "--config", "/nowhere.toml"], "/nowhere.toml: cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_is_one_sentence_and_exit_code_2(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert app.run(words) == 2
    told = capsys.readouterr()
    assert sentence in told.err.replace("\n", " ")
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (EmbeddedRedisError("It is in use."), 1, "It is in use."),
        (UsageFault("Say more."), 2, "Say more."),
        (LedgerFault("It is damaged."), 1, "It is damaged."),
        (RedisUnavailable("Redis is away."), 1, "Redis is away."),
        (KeyboardInterrupt(), 1, "Interrupted."),
        (OSError(98, "Address already in use", "1.2.3.4"), 1, "Address already in use (1.2.3.4)."),
        (ZeroDivisionError("by zero"), 1, "unexpected happened (ZeroDivisionError: by zero)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_a_failure_becomes_a_sentence_and_a_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: BaseException,
    code: int,
    words: str,
) -> None:
    monkeypatch.delenv(failures.DEBUG, raising=False)
    assert failures.tell(fault) == code
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told


def test_a_traceback_is_shown_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(failures.DEBUG, "1")
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError as fault:
        failures.tell(fault)
    assert "Traceback" in capsys.readouterr().err


# --- help ---


@pytest.mark.parametrize("command", ["demo", "up", "serve", "dispatch", "simulate", "check"])
def test_every_command_has_help_and_takes_a_configuration(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert app.run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Usage" in shown
    assert "--config" in shown


@pytest.mark.parametrize("group", ["report", "key", "provider"])
def test_a_group_alone_shows_its_help_and_is_misuse(
    capsys: pytest.CaptureFixture[str], group: str
) -> None:
    assert app.run([group]) == 2
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("program", "heavy"),
    [
        (
            "from gateway.cli import app; app.run(['--help'])",
            {"asyncio", "trio", "redis", "uvicorn", "phonenumbers", "gateway.settings.file"},
        ),
        (
            "import gateway.cli.roles.up, gateway.cli.books.reports, gateway.ingress.http.server",
            {"trio"},  # a sixth of a command's start
        ),
        (
            "from gateway.cli.lean import load_lean; load_lean(); import redis, structlog",
            {"rich", "opentelemetry.sdk"},  # a fifth of any start
        ),
    ],
    ids=["help", "what does not send", "what is installed and not asked for"],
)
def test_nothing_is_loaded_that_is_not_needed(program: str, heavy: set[str]) -> None:
    check = (
        f"import sys; {program}; sys.exit(', '.join(sorted({heavy} & sys.modules.keys())) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_was_not_loaded_is_there_for_who_asks_and_logs_are_as_they_were() -> None:
    program = """if True:
        import inspect, sys
        from gateway.cli.lean import load_lean
        load_lean()
        import redis, structlog
        from rich.table import Table
        from opentelemetry.sdk.metrics import MeterProvider
        from gateway.telemetry import configure_logs
        assert "redis" in inspect.getsource(redis)
        configure_logs("cli", "info", json=sys.argv[1] == "json")
        try:
            raise ValueError("as it was")
        except ValueError:
            structlog.get_logger("test").exception("said")
        """
    for form, shown in (("json", '"event":"said"'), ("text", "said")):
        command = [sys.executable, "-c", program, form]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
        assert shown in done.stderr
        assert "Traceback (most recent call last):" in done.stderr
        assert "ValueError: as it was" in done.stderr


# --- check ---


def test_check_says_that_all_is_well(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["check"]) == 0
    assert "is good" in capsys.readouterr().out.replace("\n", " ")
    assert not (place / ".kaskad").exists(), "checking changes nothing"


def test_check_lists_every_fault_with_file_key_and_reason(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INFOBIP_API_KEY")
    edit(place, 'route = "viber-then-sms-fast"', 'route = "by-pigeon"')
    edit(place, "[lanes]", '[lanes]\nspeed = "high"')
    assert app.run(["check", "--json"]) == 2
    shape = json.loads(capsys.readouterr().out)
    assert not shape["ok"]
    found = {fault["key"]: fault for fault in shape["faults"]}
    assert set(found) == {
        "categories.otp.route",
        "lanes.speed",
        "providers.infobip-viber.api_key_env",
        "providers.infobip-sms.api_key_env",
    }
    assert {fault["file"] for fault in shape["faults"]} == {str(place / "kaskad.toml")}
    assert "by-pigeon" in found["categories.otp.route"]["reason"]


def test_check_names_the_line_of_a_faulty_price(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (place / "prices.csv").open("a") as prices:
        prices.write("\ninfobip-sms,99,,cheap,0.1,EUR,2026-01-01\n")
    assert app.run(["check", "--json"]) == 2
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert fault["file"] == str(place / "prices.csv")
    assert "cost" in fault["key"]


def test_check_warns_of_a_provider_without_prices(place: Path) -> None:
    (place / "prices.csv").write_text(
        "provider,prefix,category,cost,sell,currency,valid_from\n"
        "infobip-viber,,,0.0150,0.0188,EUR,2026-01-01\n"
    )
    (fault,) = faults_of(load(place / "kaskad.toml", SECRETS))
    assert fault.level == "warning"
    assert "infobip-sms" in fault.reason


def test_check_names_a_redis_that_is_away(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KASKAD_REDIS_URL", f"unix://{place}/nothing.sock")
    assert app.run(["check"]) == 1, "no fault of the configuration"
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        *("report cost", "report verify", "ledger export", "key list", "provider list", "status"),
        *("erase --phone +79161234567", "close 2026-10", "copy --to unix:///nowhere/none.sock"),
    ],
)
def test_a_redis_that_is_away_is_no_fault_of_the_configuration(
    words: str,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KASKAD_REDIS_URL", f"unix://{place}/nothing.sock")
    assert app.run(words.split()) == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_check_counts_what_waits_for_a_provider_that_is_no_longer_there(
    place: Path,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.zadd(PROVIDERS, {"viber-old": 1, "drained": 1, "infobip-sms": 1})
        for category in ("otp", "marketing"):
            client.xadd(keys_of(0).lane("viber-old", category), {"m": "id"})
        client.xadd(keys_of(0).lane("infobip-sms", "otp"), {"m": "id"})
    monkeypatch.setenv("KASKAD_REDIS_URL", redis_url)
    assert app.run(["check"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "wait for it" in line]
    assert len(told) == 1
    assert "providers.viber-old: is not there, and 2 messages wait for it" in told[0]
    edit(place, 'kind = "infobip-sms"', 'kind = "infobip-sms"\nwas = ["viber-old"]')
    assert app.run(["check"]) == 0
    assert "wait for it" not in capsys.readouterr().out


def test_check_warns_of_a_data_directory_that_others_can_read(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = place / ".kaskad" / "redis"
    data.mkdir(parents=True)
    data.chmod(0o755)
    assert app.run(["check"]) == 0
    assert f"redis.data_dir: is {data}, which is open to other users" in capsys.readouterr().out


@pytest.mark.parametrize(("users", "told"), [("shared", "in every app"), ("app", "its own app")])
def test_check_says_whose_user_ids_are_whose_where_there_are_several_apps(
    place: Path, capsys: pytest.CaptureFixture[str], users: str, told: str
) -> None:
    edit(place, "[dedupe]", f'[dedupe]\nusers = "{users}"')
    assert app.run(["check"]) == 0
    assert "dedupe.users" not in capsys.readouterr().out
    edit(place, "[[apps]]", '[[apps]]\nname = "bank"\n[[apps]]')
    assert app.run(["check"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "dedupe.users" in x]
    assert line.startswith("note: ")
    assert told in line


def test_check_names_a_data_directory_that_cannot_be_made(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(place, 'data_dir = ".kaskad/redis"', 'data_dir = "prices.csv/redis"')
    assert app.run(["check", "--json"]) == 2
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert fault["key"] == "redis.data_dir"


def test_check_names_a_full_disk_under_the_data(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(binary, "is_full", lambda _folder: True)
    assert app.run(["check"]) == 2
    told = capsys.readouterr().err
    assert "redis.data_dir: is " in told
    assert "Redis cannot write there. Its disk is full: make room there.\n" in told


# --- report and key, with an embedded Redis of their own ---


@pytest.mark.redis
def test_a_person_is_erased_and_the_command_may_be_repeated(
    place: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KASKAD_REDIS_URL", redis_url)
    now_ms = time.time_ns() // 1_000_000
    settings = load(place / "kaskad.toml", os.environ)
    policy = policy_of(settings, load_prices(settings))

    async def send(client: RedisClient) -> None:
        store = Store(client, policy)
        sent = request(id=store.new_message_id("79161234567", now_ms), user="u1")
        assert (await store.admit([sent], now_ms))[0].outcome == "accepted"

    asyncio_driver.run(redis_url, send)
    for messages in (1, 0):
        assert app.run(["erase", "--user", "u1", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["messages"], told["cancelled"]) == (messages, messages)
    assert app.run(["erase", "--phone", "+79161234567"]) == 0
    assert "0 messages" in capsys.readouterr().out
    with redis.Redis.from_url(redis_url) as client:
        assert not [key for key in client.scan_iter() if b"79161234567" in key]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Name the person once"),
        (["--phone", "+79161234567", "--user", "u"], "Name the person once"),
        (["--phone", "12"], "E.164"),
        (["--email", "nobody@"], "e-mail address"),
        (["--email", "+79161234567"], "e-mail address"),
        (["--phone", "anna@shop.example"], "E.164"),
        (["--phone", "+79161234567", "--email", "anna@shop.example"], "Name the person once"),
        (["--user", "u", "--app", "shop"], "leave --app out"),
        (["--phone", "+79161234567", "--app", "shop"], "for every app: leave --app out"),
        (["--email", "anna@shop.example", "--app", "shop"], "for every app: leave --app out"),
        (["--user", " \u200b"], "--user shows nothing"),
        (["--user", "\udcff"], "--user is not UTF-8 text"),
    ],
)
def test_erase_wants_one_person(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert app.run(["erase", *words]) == 2
    assert sentence in capsys.readouterr().err
    assert place.exists()


@pytest.mark.redis
def test_a_report_needs_no_running_server(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / ".kaskad/redis").mkdir(mode=0o700, parents=True)
    days = ["--from", "2026-11-01", "--to", "2026-11-30"]
    assert app.run(["report", "cost", *days, "--group-by", "campaign,channel", "--json"]) == 0
    shape = json.loads(capsys.readouterr().out)
    assert (shape["from"], shape["to"]) == ("2026-11-01", "2026-11-30")
    assert shape["group_by"] == ["campaign", "channel"]
    assert shape["rows"] == []
    assert app.run(["report", "verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["agrees"]


@pytest.mark.parametrize(
    "words",
    ["status", "report cost", "report verify", "ledger export", "close 2026-10", "key list"],
)
def test_a_command_in_a_wrong_place_says_so_and_leaves_nothing_there(
    place: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    before = set(place.rglob("*"))
    assert app.run(words.split()) == 2
    told = capsys.readouterr().err
    assert f"There is nothing yet in {place / '.kaskad/redis'}" in told
    assert set(place.rglob("*")) == before


@pytest.mark.redis
def test_a_key_is_listed_without_being_shown_and_ends_when_it_is_revoked(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
) -> None:
    monkeypatch.setenv("KASKAD_REDIS_URL", redis_url)
    words = ["--app", "shop", "--name", "till", "--expires", "90d", "--json"]
    assert app.run(["key", "new", *words]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["scopes"] == ["send", "read"]
    assert app.run(["key", "list", "--json"]) == 0
    told = capsys.readouterr().out
    (listed,) = json.loads(told)["keys"]
    assert made["key"] not in told
    same = ("id", "app", "name", "scopes", "expires_at")
    assert [listed[name] for name in same] == [made[name] for name in same]
    assert (listed["prefix"], listed["last_used_at"]) == (made["key"][:8], None)
    assert app.run(["key", "list"]) == 0
    assert made["id"] in capsys.readouterr().out
    assert app.run(["key", "revoke", "nobody"]) == 2
    assert "`kaskad key list` shows" in capsys.readouterr().err
    assert app.run(["key", "revoke", listed["prefix"]]) == 0
    assert made["id"] in capsys.readouterr().out
    assert app.run(["key", "list"]) == 0
    assert capsys.readouterr().out == "There is no key of `kaskad key new`.\n"


@pytest.mark.redis
def test_a_provider_is_paused_and_resumed_with_who_and_why(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
) -> None:
    monkeypatch.setenv("KASKAD_REDIS_URL", redis_url)
    monkeypatch.setenv("SUDO_USER", "ann")
    assert app.run(["provider", "pause", "nobody"]) == 2
    assert "it has infobip-sms, infobip-viber" in capsys.readouterr().err
    assert app.run(["provider", "pause", "infobip-sms", "--reason", "\udcff"]) == 2
    assert "--reason is not UTF-8 text" in capsys.readouterr().err
    assert app.run(["provider", "pause", "infobip-sms", "--reason", "maintenance"]) == 0
    assert capsys.readouterr().out == "infobip-sms is paused: nothing is sent to it.\n"
    assert app.run(["provider", "list", "--json"]) == 0
    sms, viber = json.loads(capsys.readouterr().out)["providers"]
    assert (sms["name"], sms["channel"], sms["state"]) == ("infobip-sms", "sms", "paused")
    assert (sms["kind"], sms["reason"], sms["until"]) == ("operator", "maintenance", None)
    assert sms["by"].startswith("ann@")
    assert (viber["state"], viber["by"], viber["since"]) == ("up", None, None)
    assert app.run(["provider", "list"]) == 0
    assert "maintenance" in capsys.readouterr().out
    assert app.run(["provider", "resume", "infobip-sms"]) == 0
    assert app.run(["provider", "resume", "infobip-sms", "--json"]) == 0
    goes_on, state = capsys.readouterr().out.splitlines()
    assert goes_on == "infobip-sms goes on."
    assert json.loads(state)["state"] == "up"


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["--version"]) == 0
    assert capsys.readouterr().out == f"kaskad {VERSION}\n"


@pytest.mark.redis
def test_status_tells_what_runs_and_what_to_look_at(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
) -> None:
    async def run_somewhere(redis: RedisClient) -> None:
        now_ms = time.time_ns() // 1_000_000
        for n, rate in enumerate((500, 300)):
            registries = telemetry.new_registries()
            DispatchMetrics(registries).rate.labels("infobip-sms").set(rate)
            process = f"dispatch-host-{n}"
            snapshot = telemetry.snapshot(registries, process)
            await snapshots.publish(redis, process, snapshot, now_ms)
        for webhook in (
            Webhook("w1", "https://shop.example/", ("message.sent",), ()),
            Webhook("w2", "https://old.example/", ("message.sent",), (), enabled=False, why="gone"),
        ):
            deed = audit.Deed(now_ms, "a test", "webhook.put")
            await webhooks.change(redis, "shop", webhook.id, lambda *_, w=webhook: w, deed)
            nothing = webhook_queues.TryResults((), (), ())
            await webhook_queues.note(redis, webhook.id, nothing, now_ms - DEAD_MS)
        last = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=4)
        await scheduled_reports.note(
            redis, "daily", ScheduleState(), ScheduleState(last.isoformat())
        )

    path, alone = place / "kaskad.toml", 'providers = [{ name = "infobip-sms", weight = 7 }]'
    path.write_text(path.read_text().replace("[channels.sms]", f"[channels.sms]\n{alone}"))
    with path.open("a") as file:
        file.write('\n[[reports.schedule]]\nname = "daily"\nevery = "day"\nfolder = "reports"\n')
        file.write(
            '[providers.other]\nkind = "smpp"\nhost = "127.0.0.1"\nsystem_id = "k"\nsender = "K"\n'
        )
    monkeypatch.setenv("KASKAD_REDIS_URL", redis_url)
    asyncio_driver.run(redis_url, run_somewhere)
    assert app.run(["provider", "pause", "infobip-viber", "--reason", "maintenance"]) == 0
    capsys.readouterr()
    assert app.run(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == VERSION
    assert found["providers"]["infobip-sms"]["rate"] == 500
    assert found["providers"]["infobip-viber"]["limited_by"] == "pause"
    assert found["processes"] == [
        {"name": f"dispatch-host-{n}", "role": "dispatch", "version": VERSION} for n in range(2)
    ]
    no_ingress, differing, paused, dead, gone, late = found["remarks"]
    assert no_ingress == "No ingress runs: nothing is taken."
    assert "500/s at dispatch-host-0, 300/s at dispatch-host-1" in differing
    assert paused.endswith("(operator): maintenance")
    assert dead.startswith("The webhook w1 of shop has taken nothing since ")
    assert gone == "The webhook w2 of shop is disabled (gone): 0 events wait."
    (report,) = found["reports"]
    assert (report["name"], report["made"], report["failed_at"]) == ("daily", None, None)
    assert late == (
        f"The report daily of {report['next']} is due since {report['due_at']} and nobody makes "
        "it: start `kaskad report run`."
    )
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert app.run(["status", "--watch", "--json"]) == 1
    watched = capsys.readouterr()
    assert len(watched.out.splitlines()) == 2
    assert watched.err == "Interrupted.\n"
    assert app.run(["status"]) == 0
    told = capsys.readouterr().out
    assert all(remark in told for remark in found["remarks"])
    assert "dispatch-host-1" in told
    rows = [line.split() for line in told.splitlines()]
    assert [row[1:5] for row in rows if row[:1] == ["sms"]] == [
        ["infobip-sms", "7", "1.0", "1.0"],
        ["other", "0", "0.0", "0.0"],
    ]


@pytest.mark.redis
def test_a_key_is_printed_alone_on_stdout_and_only_its_hash_is_kept(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["key", "new", "--app", "crm", "--scope", "send"]) == 0
    told = capsys.readouterr()
    key = told.out.strip()
    assert key.startswith("kk_")
    assert "has no app crm" in told.err
    # All levels: Redis 7 and later keep the append-only file in a folder.
    stored = b"".join(p.read_bytes() for p in (place / ".kaskad/redis").rglob("*") if p.is_file())
    assert key.encode() not in stored
    assert b"crm" in stored


@pytest.mark.redis
def test_a_report_over_the_wrong_number_of_shards_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with EmbeddedRedis(place / ".kaskad/redis") as redis:
        installation.prepare(redis.url, 1, "EUR")
    edit(place, "# shards = 1", "shards = 4")
    assert app.run(["report", "cost"]) == 2
    assert "set redis.shards = 1" in capsys.readouterr().err


def test_scopes_are_read_in_any_order() -> None:
    assert scopes_of("report, send,send") == ("send", "report")


def test_a_cost_question_is_asked_as_over_http() -> None:
    question = CostQuestion("2026-11-01", None, "day,app", ("campaign=", "app=shop"))
    assert question.parameters() == [
        ("from", "2026-11-01"),
        ("group_by", "day,app"),
        ("campaign", ""),
        ("app", "shop"),
    ]


@pytest.mark.redis
def test_check_lists_what_is_set_aside_or_cannot_be_read(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
) -> None:
    async def damage(redis: RedisClient) -> None:
        await quarantine.set_aside(redis, 0, {"{k0}m:X": b"raw"}, "This cannot be read.", 0)
        await redis.call([("HSET", PAUSED, "viber", "?"), ("HSET", API_KEYS, "abc", "?")])

    asyncio_driver.run(redis_url, damage)
    monkeypatch.setenv("KASKAD_REDIS_URL", redis_url)
    capsys.readouterr()
    assert app.run(["check", "--json"]) == 0
    found = {f["key"]: f["reason"] for f in json.loads(capsys.readouterr().out)["faults"]}
    assert found["{k0}m:X"].startswith("was set aside at 1970-01-01T00:00:00+00:00: This cannot")
    assert "delete the field" in found["{kaskad}paused viber"]
    assert "make a new key" in found["{kaskad}keys abc"]


# --- copy ---


@pytest.mark.redis
def test_copy_tells_what_it_copied_and_refuses_what_it_cannot(
    place: Path, capsys: pytest.CaptureFixture[str], short_dir: Path, redis_url: str
) -> None:
    async def run_somewhere(redis: RedisClient) -> None:
        await snapshots.publish(redis, "ingress-host-1", b"", time.time_ns() // 1_000_000)

    assert app.run(["key", "new", "--app", "shop"]) == 0
    with EmbeddedRedis(place / ".kaskad/redis", "everysec") as source:
        asyncio_driver.run(source.url, run_somewhere)
        assert app.run(["copy", "--to", redis_url]) == 2
        assert "still runs on this Redis (ingress-host-1)" in capsys.readouterr().err
        installation.prepare(source.url, 1, "EUR")
        asyncio_driver.run(source.url, lambda client: snapshots.withdraw(client, "ingress-host-1"))
    assert app.run(["copy", "--to", redis_url, "--shards", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["counts"]["API keys"], told["agrees"], told["shards"]) == (1, True, 4)
    assert app.run(["copy", "--to", redis_url]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.redis
def test_a_copy_during_which_a_role_started_is_not_finished(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
) -> None:
    """Not even one that started after all was compared."""

    async def run_somewhere(redis: RedisClient) -> None:
        await snapshots.publish(redis, "dispatch-host-1", b"", time.time_ns() // 1_000_000)

    marked = copying.mark

    def mark(source: Side, copied: Copied) -> None:
        asyncio_driver.run(source_url, run_somewhere)
        marked(source, copied)

    monkeypatch.setattr(copying, "mark", mark)
    with EmbeddedRedis(place / ".kaskad/redis", "everysec") as source:
        source_url = source.url
        installation.prepare(source.url, 1, "EUR")
        assert app.run(["copy", "--to", redis_url]) == 2
        assert "still runs on this Redis (dispatch-host-1)" in capsys.readouterr().err
        installation.prepare(source.url, 1, "EUR")  # it has no mark
    assert [f.code for f in installation.look(redis_url, 1, "EUR") if f.level == "error"] == [
        "copy_unfinished"
    ]


def test_a_role_of_up_waits_for_a_redis_that_died_while_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    slept: list[float] = []

    def ask() -> str:
        asked.append(1)
        if len(asked) < 4:
            raise RedisUnavailable("Nobody answers.")
        return "found"

    monkeypatch.delenv(crew.READY_FD, raising=False)
    with pytest.raises(RedisUnavailable):
        roles.once_redis_answers(ask)
    monkeypatch.setenv(crew.READY_FD, "9")
    assert (roles.once_redis_answers(ask, slept.append), len(asked)) == ("found", 4)
    assert len(slept) == 2
