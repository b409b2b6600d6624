"""`kaskad report run`: what is due by hand, and as the role that it is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import app
from gateway.cli.roles.up import roles
from gateway.settings.file import load
from tests.cli.test_cli import ROOT, SECRETS, edit
from tests.cli.test_cli import place as place  # the fixture

SCHEDULE = """
[[reports.schedule]]
name = "daily"
every = "day"
folder = "reports"

[archive]
"""


@pytest.fixture
def scheduled(place: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KASKAD_REDIS_URL", redis_url)
    edit(place, "\n[archive]\n", SCHEDULE)
    return place


def test_what_is_due_is_made_once(scheduled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", "run", "--once", "--json"]
    assert app.run(words) == 1
    (failed,) = json.loads(capsys.readouterr().out)["reports"]
    assert "No such file or directory" in failed["reason"]
    assert app.run(words) == 0, "it is tried again later"
    assert json.loads(capsys.readouterr().out) == {"made_elsewhere": False, "reports": []}
    assert app.run(words[:-1]) == 0
    said = capsys.readouterr().out
    assert said.startswith("  daily: tried again at 20")
    assert "because " in said
    assert "No such file or directory" in said


def test_a_folder_has_its_file(scheduled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scheduled / "reports").mkdir()
    assert app.run(["report", "run", "--once"]) == 0
    (file,) = (scheduled / "reports").iterdir()
    assert file.read_text().startswith("accepted,duplicates,")
    assert f"daily {file.stem.removeprefix('daily-')}: made" in capsys.readouterr().out
    assert app.run(["report", "run", "--once"]) == 0
    assert "Nothing is due." in capsys.readouterr().out


def test_without_a_schedule_there_is_nothing_to_run(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["report", "run"]) == 2
    assert "has no [[reports.schedule]]" in capsys.readouterr().err


def test_without_its_secret_it_is_not_begun(
    scheduled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(scheduled, 'folder = "reports"', 'url = "https://x.example/"\nsecret_env = "NOT_SET"')
    assert app.run(["report", "run"]) == 2
    assert "NOT_SET, which is not set" in capsys.readouterr().err


def test_check_tells_what_could_not_be_made_here(
    scheduled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(scheduled, 'folder = "reports"', 'folder = "reports"\nformat = "xlsx"')
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    assert app.run(["check", "--json"]) == 0, "another machine may make it"
    told = {fault["key"]: fault for fault in json.loads(capsys.readouterr().out)["faults"]}
    assert "make it" in told["reports.schedule[0].folder"]["reason"]
    assert "kaskad[archive]" in told["reports.schedule[0].format"]["reason"]
    (scheduled / "reports").mkdir()
    monkeypatch.delitem(sys.modules, "xlsxwriter")
    assert app.run(["check", "--json"]) == 0
    told = {fault["key"]: fault for fault in json.loads(capsys.readouterr().out)["faults"]}
    assert not [key for key in told if key.startswith("reports.schedule")]


def test_it_is_a_part_of_up_where_something_is_scheduled(place: Path) -> None:
    def names() -> list[str]:
        return [role.name for role in roles(load(place / "kaskad.toml", SECRETS))]

    assert names() == ["ingress", "dispatch"]
    edit(place, "\n[archive]\n", SCHEDULE)
    assert names() == ["ingress", "dispatch", "reports"]


def test_the_role_makes_them_and_ends_when_it_is_told_to(scheduled: Path) -> None:
    (scheduled / "reports").mkdir()
    command = [sys.executable, "-m", "gateway.cli", "report", "run"]
    role = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert role.stderr is not None
        said = next(line for line in role.stderr if "is made" in line)
        assert json.loads(said)["report"] == "daily"
        role.send_signal(signal.SIGTERM)
        assert role.wait() == 0
        assert role.stderr.read() == ""
    finally:
        role.kill()
        role.communicate()
    assert len(list((scheduled / "reports").iterdir())) == 1
