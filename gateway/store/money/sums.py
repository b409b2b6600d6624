"""What a transaction books, added up: for its ledger entry, and for the running totals. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache

from gateway.core.effects import BY_HOUR
from gateway.core.records.entries import NO_HOUR, Group, Post, Total, total_codec


def fold_counts(posts: list[Post]) -> list[Post]:
    """Adds the posts that only count together, a group each; those that carry money stay as they
    are."""
    counts = _by_group(post for post in posts if post.message is None)
    money = [post for post in posts if post.message is not None]
    return [Post(group, dict(sums)) for group, sums in counts.items()] + money


def add_up(posts: list[Post], hour: int = NO_HOUR) -> dict[bytes, int]:
    """The running totals' increments: field (a Total's record) to amount; those of an `hour` of the
    day name it."""
    return {
        _total_name(group, measure, hour): amount
        for group, sums in _by_group(posts).items()
        for measure, amount in sums.items()
        if amount
    }


def by_hour(posts: list[Post], hour: int) -> dict[bytes, int]:
    """The same of what people did, in an hour of the day."""
    done = [
        Post(post.group, {name: n for name, n in post.measures.items() if name in BY_HOUR})
        for post in posts
        if not BY_HOUR.isdisjoint(post.measures)
    ]
    return add_up(done, hour)


def _by_group(posts: Iterable[Post]) -> dict[Group, dict[str, int]]:
    groups: defaultdict[Group, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for post in posts:
        sums = groups[post.group]
        for measure, amount in post.measures.items():
            sums[measure] += amount
    return groups


@lru_cache(maxsize=4096)
def _total_name(group: Group, measure: str, hour: int) -> bytes:
    return total_codec.encode(Total.of(group, measure, hour))
