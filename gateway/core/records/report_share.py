"""A report that is shown to whoever has its link, until an end."""

from __future__ import annotations

import datetime

import msgspec
from msgspec import field

from gateway.core.records.codec import Codec


class ReportShare(msgspec.Struct, frozen=True, omit_defaults=True):
    """The question as it was asked, its days fixed. `app`: whose money it shows, None: every app's;
    `by` made it."""

    by: str = field(name="b")
    until_ms: int = field(name="u")
    from_day: datetime.date = field(name="f")
    to_day: datetime.date = field(name="t")
    group_by: tuple[str, ...] = field(name="g", default=())
    filters: tuple[tuple[str, str], ...] = field(name="l", default=())
    app: str | None = field(name="a", default=None)


report_share_codec = Codec(ReportShare, "shared report")
