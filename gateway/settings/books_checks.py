"""What the tables of money must mean: reports, budgets, the archive. Touches nothing."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from gateway.core.campaigns.send_windows import zone_named
from gateway.core.channels import CHANNELS
from gateway.core.phones import COUNTRIES
from gateway.core.texts import name_of
from gateway.decoding import KeyFault
from gateway.finance.question import ReportFault
from gateway.finance.reports.schedule import period_of, query_of
from gateway.settings.known_names import none_such
from gateway.settings.tables import Document
from providers.http.receivers import is_receiver

ARCHIVE_KEEP_MS = 3_600_000  # for so long an answer of the archive holds (store/archive/closed.py)
_A_DAY = period_of("day", datetime.date(2026, 11, 28))
ZONE_RULE = 'write an IANA zone, such as "Europe/Moscow".'


def faults(document: Document) -> Iterator[KeyFault]:
    """What is wrong with them."""
    yield from _reports(document)
    yield from _budgets(document)
    yield from _archive(document)


def _reports(document: Document) -> Iterator[KeyFault]:
    zone = document.reports.zone
    if zone_named(zone) is None:
        yield KeyFault("reports.zone", f"is {zone!r}: {ZONE_RULE}")
    hosts = document.webhooks.allow_hosts
    for i, schedule in enumerate(document.reports.schedule):
        path = f"reports.schedule[{i}]"
        try:
            query_of(_A_DAY, schedule.group_by, schedule.filters)
        except ReportFault as fault:
            key = "group_by" if fault.parameter == "group_by" else f"filters.{fault.parameter}"
            yield KeyFault(f"{path}.{key}", f"cannot be asked. {fault.detail}")
        if bool(schedule.folder) == bool(schedule.url):
            yield KeyFault(path, "needs a folder or a url, and not both.")
        if schedule.url and not is_receiver(schedule.url, hosts):
            yield KeyFault(
                f"{path}.url",
                f"is {schedule.url!r}: write an https address without user or fragment; http is "
                "for hosts of webhooks.allow_hosts.",
            )
        if schedule.url and schedule.secret_env is None:
            yield KeyFault(
                f"{path}.secret_env",
                "is missing: name the variable with the secret that signs what is sent.",
            )


def _budgets(document: Document) -> Iterator[KeyFault]:
    apps = [app.name for app in document.apps]
    for i, budget in enumerate(document.budgets):
        path = f"budgets[{i}]"
        if budget.app is not None and budget.app not in apps:
            yield KeyFault(f"{path}.app", f"names the app {budget.app!r}, {none_such(apps)}")
        if budget.channel is not None and budget.channel not in CHANNELS:
            named = f"names the channel {budget.channel!r}, {none_such(CHANNELS)}"
            yield KeyFault(f"{path}.channel", named)
        if budget.country is not None and budget.country not in COUNTRIES:
            yield KeyFault(
                f"{path}.country",
                f'is {budget.country!r}: write a country in two letters, such as "KZ".',
            )
        campaign = budget.campaign
        if campaign is not None and name_of(campaign) != campaign:
            yield KeyFault(
                f"{path}.campaign", f"is {campaign!r}: write it as {name_of(campaign)!r}."
            )


def warnings(document: Document) -> Iterator[str]:
    """What works, but perhaps not as it was meant."""
    archive = document.archive
    if archive.url and archive.keep_ms < ARCHIVE_KEEP_MS:
        yield (
            f"archive.keep is {archive.keep_ms // 1000} s: a process that stands still for longer "
            "while it brings an archived message back may undo what others wrote meanwhile, and a "
            f"receipt is then billed twice. Set at least {ARCHIVE_KEEP_MS // 1000} s (1h)."
        )


def _archive(document: Document) -> Iterator[KeyFault]:
    archive = document.archive
    scheme, separator, bucket = archive.url.partition("://")
    if separator and (scheme != "s3" or not bucket.partition("/")[0]):
        yield KeyFault("archive.url", "is a folder, or s3://BUCKET/PREFIX.")
    if archive.url and archive.keep_ms >= document.retention.messages_ms:
        yield KeyFault(
            "archive.keep",
            "must be shorter than retention.messages, after which Redis drops messages.",
        )
