"""Reports that are shared by a link: kept under a hash of the link's secret until their end, so
that nobody who reads Redis can open one. Raises RedisUnavailable, and NewerRecordError for one that
a newer Kaskad made."""

from __future__ import annotations

import hashlib

from gateway.core.records.report_share import ReportShare, report_share_codec
from gateway.redis.client import RedisClient
from gateway.store import shared_keys


async def keep(redis: RedisClient, secret: str, share: ReportShare, now_ms: int) -> None:
    """Until its end, which must be to come."""
    record = report_share_codec.encode(share)
    await redis.call([("SET", _key(secret), record, "PX", share.until_ms - now_ms)])


async def find(redis: RedisClient, secret: str, now_ms: int) -> ReportShare | None:
    """None: it has ended, or there never was one."""
    (value,) = await redis.call([("GET", _key(secret))])
    share = report_share_codec.decode(value) if isinstance(value, bytes) else None
    return share if share is not None and now_ms < share.until_ms else None


def _key(secret: str) -> str:
    return shared_keys.report_share(hashlib.sha256(secret.encode()).hexdigest())
