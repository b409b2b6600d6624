"""When rejections are the account's fault and not the persons': nearly all, in a row, alike. Pure.

A sender that is not registered, a route that is not there: every message is rejected, one by one,
and each would go on to the next channel, a whole campaign at several times its price. Reasons that
speak of the person (not a user, an unknown number) never count, however many: whether one does is
the adapter's knowledge (`providers.contract.About`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

STREAK = 20  # messages in a row
NEARLY_ALL = 19  # of them rejected for the same reason: 95 %


class RejectionStreak:
    """One provider's last messages. `since` is when a pause began or ended last: what was before
    says nothing of now."""

    def __init__(self) -> None:
        self._codes: deque[str | None] = deque(maxlen=STREAK)
        self._since = -1.0

    def saw(self, codes: Sequence[str | None], since: float = -1.0) -> str | None:
        """Notes messages in their order: the code of one that was rejected, None for one that was
        taken. The code nearly all are rejected with, if there is one now."""
        if since > self._since:
            self._since = since
            self._codes.clear()
        self._codes.extend(codes)
        return self.code() if any(codes) else None

    def code(self) -> str | None:
        """The code nearly all of them are rejected with, if there is one."""
        if len(self._codes) < STREAK:
            return None
        ((code, count),) = Counter(self._codes).most_common(1)
        return code if count >= NEARLY_ALL else None

    def clear(self) -> None:
        self._codes.clear()
