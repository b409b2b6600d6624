"""What a person does not want: messages on every channel or on one, of marketing or of all. Pure.

An opt-out belongs to who set it, the person or an app. The person, that app and whoever manages may
take it back or narrow it; everybody may widen it, and it stays whose it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

OptOut = Literal["marketing", "all"]
OptOuts = Mapping[str, OptOut]  # by channel; EVERY_CHANNEL stands for all of them

EVERY_CHANNEL = ""
NONE: OptOuts = {}
PERSON = ""  # in the place of an app
# How a person said so: by a reply, by the code in a message, or to the provider.
BY_REPLY, BY_LINK, AT_PROVIDER = "stop_word", "unsubscribe_link", "at_provider"


class NotTheirsError(Exception):
    """The opt-out is another's."""


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whence an opt-out is: the app that set it, or the person itself where there is none. `why` is
    in the app's words; of a person, how it was said."""

    app: str = PERSON
    at_ms: int = 0
    why: str = ""


class KeptOptOut(msgspec.Struct, frozen=True):
    """`origin` None: it was set before that was kept, or it cannot be read."""

    scope: OptOut
    origin: Origin | None

    def is_for(self, app: str, *, manages: bool) -> bool:
        """Whether an app, or the person, may take it back or narrow it."""
        return manages or self.origin is None or app in (PERSON, self.origin.app)

    def is_after(self, at_ms: int | None) -> bool:
        """Whether it was set after that moment, which None never is."""
        return at_ms is not None and self.origin is not None and self.origin.at_ms > at_ms


KeptOptOuts = Mapping[str, KeptOptOut]  # by channel, as OptOuts are


def opted_out(
    kept: KeptOptOuts, channel: str, scope: OptOut, origin: Origin, *, manages: bool = False
) -> KeptOptOuts:
    """What is kept once somebody opted out. The person itself narrows nothing by that, and of its
    own the latest counts, in whatever order they are told. Raises NotTheirsError."""
    there = kept.get(channel)
    if there is not None:
        if origin.app == PERSON and there.scope == "all":
            scope = "all"
        if there.origin is not None and origin.app == there.origin.app == PERSON:
            origin = max(origin, there.origin, key=lambda each: each.at_ms)
        if not there.is_for(origin.app, manages=manages):
            if (there.scope, scope) == ("all", "marketing"):
                raise NotTheirsError
            origin = there.origin or origin
    return {**kept, channel: KeptOptOut(scope, origin)}


def taken_back(
    kept: KeptOptOuts,
    channel: str | None,
    app: str,
    *,
    manages: bool = False,
    until_ms: int | None = None,
) -> KeptOptOuts:
    """What is kept once the opt-out of a channel was taken back; None: all there are. One that was
    set after `until_ms` stays: who took back did not know of it. Raises NotTheirsError."""
    if not all(
        one.is_for(app, manages=manages) for name, one in kept.items() if channel in (None, name)
    ):
        raise NotTheirsError
    return {
        name: one
        for name, one in kept.items()
        if channel not in (None, name) or one.is_after(until_ms)
    }


def refuses(opt_outs: OptOuts, channel: str, category: str) -> bool:
    """Whether the person does not want a message of this category on this channel."""
    return _stops(opt_outs.get(EVERY_CHANNEL), category) or _stops(opt_outs.get(channel), category)


def widest(found: Iterable[OptOuts]) -> OptOuts:
    """All that a person does not want who opted out under several addresses."""
    joined: dict[str, OptOut] = {}
    for opt_outs in found:
        for channel, scope in opt_outs.items():
            if joined.get(channel) != "all":
                joined[channel] = scope
    return joined


def _stops(scope: OptOut | None, category: str) -> bool:
    return scope == "all" or (scope == "marketing" and category == "marketing")
