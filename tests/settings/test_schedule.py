"""`[[reports.schedule]]`: what is read of it, and what is told of one that cannot be meant."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping

import pytest

from gateway.finance.reports.schedule import ReportSchedule
from gateway.settings import file as settings
from gateway.settings.bootstrap import schedules_of
from gateway.settings.file import SettingsError
from tests.settings.test_settings import ENV, FILE, SHIPPED

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
IN_FOLDER = """
[[reports.schedule]]
name = "daily"
every = "day"
folder = "reports"
"""
POSTED = """
[[reports.schedule]]
name = "monthly"
every = "month"
at = "08:30"
group_by = ["app", "channel"]
filters = { app = ["shop"], campaign = ["", "spring"] }
format = "xlsx"
url = "https://finance.example/in?key=1"
secret_env = "REPORTS_SECRET"
"""


def with_schedules(text: str) -> str:
    """The shipped file with these below `[reports]`."""
    head, tables, rest = SHIPPED.partition("\n[archive]\n")
    return head + text + tables + rest


def read(
    text: str, env: Mapping[str, str] = ENV | {"REPORTS_SECRET": SECRET}
) -> list[ReportSchedule]:
    return list(schedules_of(settings.parse(with_schedules(text), FILE, env)))


def test_a_schedule_is_read_as_it_is_written() -> None:
    daily, monthly = read(IN_FOLDER + POSTED)
    assert daily == ReportSchedule(
        name="daily", every="day", at=datetime.time(6), folder=str(FILE.parent / "reports")
    )
    assert monthly == ReportSchedule(
        name="monthly",
        every="month",
        at=datetime.time(8, 30),
        group_by=("app", "channel"),
        filters={"app": ("shop",), "campaign": ("", "spring")},
        form="xlsx",
        url="https://finance.example/in?key=1",
        secret=SECRET,
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('name = "a/b"', "reports.schedule has an entry named 'a/b'"),
        ('every = "hour"', "reports.schedule[0].every is 'hour'"),
        ('at = "24:00"', "reports.schedule[0].at"),
        ('at = "6:00"', "reports.schedule[0].at"),
        ('group_by = ["phone"]', "reports.schedule[0].group_by cannot be asked. A report has no"),
        ("filters = { channel = ['fax'] }", "reports.schedule[0].filters.channel cannot be asked"),
        ("filters = { from = ['x'] }", "reports.schedule[0].filters.from cannot be asked"),
        ('format = "pdf"', "reports.schedule[0].format is 'pdf'"),
        ('url = "http://finance.example/"', "reports.schedule[0].url is 'http://finance.example/'"),
        ('url = "https://me:pw@finance.example/"', "reports.schedule[0].url"),
        ('secret_env = "NOT_SET"', "NOT_SET, which is not set"),
        ('folder = "x"', "reports.schedule[0] needs a folder or a url, and not both."),
        ('path = "x"', "reports.schedule[0].path is an unknown key"),
    ],
)
def test_what_a_schedule_cannot_be_is_told(line: str, told: str) -> None:
    text = re.sub(rf"(?m)^{line.partition(' ')[0]} = .*\n", "", POSTED) + line + "\n"
    with pytest.raises(SettingsError) as raised:
        read(text)
    assert told in str(raised.value)


@pytest.mark.parametrize("key", ["url", "secret_env"])
def test_what_is_posted_goes_somewhere_and_is_signed(key: str) -> None:
    with pytest.raises(SettingsError, match=r"reports\.schedule\[0\]"):
        read(re.sub(rf"(?m)^{key} = .*\n", "", POSTED))


@pytest.mark.parametrize("secret", ["a password", "whsec_", "whsec_c2hvcnQ=", "whsec_?" * 9])
def test_a_secret_that_signs_nothing_is_told(secret: str) -> None:
    with pytest.raises(SettingsError, match="whose value signs no webhook") as raised:
        read(POSTED, ENV | {"REPORTS_SECRET": secret})
    assert secret not in str(raised.value).replace("whsec_$", "")


def test_a_local_receiver_may_be_allowed() -> None:
    text = POSTED.replace("https://finance.example/in?key=1", "http://books.local/in")
    shipped = with_schedules(text) + '\n[webhooks]\nallow_hosts = ["books.local"]\n'
    shipped = re.sub(r"(?m)^\[webhooks\]\n# allow_hosts.*\n", "", shipped, count=1)
    found = settings.parse(shipped, FILE, ENV | {"REPORTS_SECRET": SECRET})
    assert schedules_of(found)[0].url == "http://books.local/in"


def test_two_of_one_name_would_write_the_same_files() -> None:
    with pytest.raises(SettingsError, match="has 2 entries named 'daily'"):
        read(IN_FOLDER + IN_FOLDER)
