"""What a Redis that fills up still takes."""

from __future__ import annotations

import pytest

from gateway.core.fullness import refused, takes


@pytest.mark.parametrize(
    ("used", "limit", "what"),
    [
        (799, 1_000, None),
        (800, 1_000, "marketing"),
        (899, 1_000, "marketing"),
        (900, 1_000, "everything"),
        (2_000, 1_000, "everything"),
        (10**12, 0, None),  # no limit
    ],
)
def test_marketing_is_refused_first_then_everything(
    used: int, limit: int, what: str | None
) -> None:
    assert refused(used, limit) == what


def test_the_other_categories_are_taken_while_marketing_is_refused() -> None:
    assert [takes(c, "marketing") for c in ("otp", "transactional", "marketing")] == [
        True,
        True,
        False,
    ]
    assert not any(takes(c, "everything") for c in ("otp", "transactional", "marketing"))
    assert all(takes(c, None) for c in ("otp", "transactional", "marketing"))
