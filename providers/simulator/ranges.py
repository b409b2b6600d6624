"""The ranges of what can be set in the simulator."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

DAY_MS: Final = 86_400_000

Share = Annotated[float, Meta(ge=0, le=1)]
Millis = Annotated[int, Meta(ge=0, le=30 * DAY_MS)]
Count = Annotated[int, Meta(ge=0, le=1_000)]
Rate = Annotated[int, Meta(ge=0, le=10_000_000)]
