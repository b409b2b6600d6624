"""What is kept of links: where those of messages lead, and those that were made for themselves."""

from __future__ import annotations

import msgspec
from msgspec import field

from gateway.core.records.codec import Codec


class Tracked(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of a message: the number of its first link, and how many each of its steps has; the numbers
    of all are in a row."""

    first: int
    counts: tuple[int, ...]

    def numbers_of(self, step: int) -> range:
        """The numbers of a step's links."""
        begin = self.first + sum(self.counts[:step])
        return range(begin, begin + self.counts[step])


class StepLinks(msgspec.Struct, frozen=True, array_like=True):
    """One step of a message: its channel, and where its links lead, in their order."""

    channel: str
    targets: tuple[str, ...]


class LinkTargets(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the links of a message lead, or those of all messages of one range. Of a message alone
    `message` is its packed id, and `before` how many links its former places have."""

    app: str = field(name="a")
    steps: tuple[StepLinks, ...] = field(name="s")
    campaign: str | None = field(name="g", default=None)
    message: bytes = field(name="m", default=b"")
    before: int = field(name="b", default=0)

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(len(step.targets) for step in self.steps)

    def link(self, number: int) -> tuple[int, StepLinks, str] | None:
        """The step of the message's link of that number, what it has, and where the link leads."""
        for index, step in enumerate(self.steps):
            if number < len(step.targets):
                return index, step, step.targets[number]
            number -= len(step.targets)
        return None


class OwnLink(msgspec.Struct, frozen=True, omit_defaults=True):
    """A link of an app's own, for a poster or a bio."""

    app: str = field(name="a")
    url: str = field(name="u")
    made_ms: int = field(name="m")
    campaign: str | None = field(name="g", default=None)
    title: str | None = field(name="t", default=None)
    expires_ms: int = field(name="x", default=0)  # 0: never


targets_codec = Codec(LinkTargets, "link's targets")
own_link_codec = Codec(OwnLink, "link")
