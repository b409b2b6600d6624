"""A conversion as it is remembered under its id: what it was put down to when it first came."""

from __future__ import annotations

import msgspec
from msgspec import field

from gateway.core.reactions.conversions import By
from gateway.core.records.codec import Codec
from gateway.core.records.entries import NO_STEP


class Target(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A message that it concerns: `step` has it, `assisted` had their part, and a message that goes
    on ends."""

    message: str = field(name="m")
    step: int = field(name="s", default=NO_STEP)
    assisted: tuple[int, ...] = field(name="a", default=())


class Conversion(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """`at_ms` is when the person did it, `value` in 1e-6 currency units; `by` what gave it to its
    step, which is of this campaign and channel."""

    at_ms: int = field(name="t")
    value: int = field(name="v", default=0)
    by: By | None = field(name="b", default=None)
    targets: tuple[Target, ...] = field(name="g", default=())
    campaign: str | None = field(name="c", default=None)
    channel: str = field(name="h", default="")
    assisted: tuple[str, ...] = field(name="a", default=())  # the channels

    @property
    def corrects(self) -> bool:
        return self.value < 0

    @property
    def had_by(self) -> Target | None:
        """The message whose step has it."""
        return next((target for target in self.targets if target.step != NO_STEP), None)


conversion_codec = Codec(Conversion, "conversion")
