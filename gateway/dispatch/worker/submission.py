"""From a claimed message to its submission: what the provider of its current step is asked to send.

What a message says is read from its record, filled in where it says a version of its campaign, and
written with its links. Messages of one batch that say the same share what that comes to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.core.campaigns.campaign_words import Version
from gateway.core.channels import CHANNELS
from gateway.core.ids import step_ref
from gateway.core.links.tracking import LinkWriter
from gateway.core.people.unsubscribing import UnsubscribeWriter
from gateway.core.reactions.opens import with_picture
from gateway.core.records.content import NO_WORDS, Content, content_codec
from gateway.core.records.message import Message, Step
from gateway.core.timing import patience_ms
from providers.contract import Submission


class NoContentError(Exception):
    """There is nothing of it left."""


class SubmissionWriter:
    """Writes the submissions of one batch. `sender` is the configured one, `versions` has what was
    read of those that its messages say, `unsubscribe` writes where marketing is stopped, and
    `links` their links, once there is a message that has any."""

    def __init__(
        self,
        sender: str,
        versions: Mapping[bytes, Version] | None = None,
        unsubscribe: UnsubscribeWriter | None = None,
    ) -> None:
        self.links: LinkWriter | None = None
        self._sender = sender
        self._versions = versions or {}
        self._unsubscribe = unsubscribe
        # What is said in nobody's own words, by content, channel and category, to nobody yet: the
        # messages of a campaign mostly say the same, and to make it anew for each took a tenth of a
        # claim (2026-11-30).
        self._shared: dict[tuple[bytes, str, str], Submission] = {}

    def write(self, message: Message, now_ms: int) -> Submission:
        """What the provider of the current step is asked to send. Raises NoContentError, and what
        reading the content raises."""
        step = message.step
        which = message.content, step.channel, message.category
        said = self._shared.get(which)
        if said is None or message.content_of or message.links is not None:
            fields, personal = self._said(message, step)
            said = Submission(ref="", to="", category=message.category, validity_ms=0, **fields)
            if not personal:
                self._shared[which] = said
        kind = CHANNELS[step.channel].address
        return replace(
            said,
            ref=step_ref(message.id, message.current, step.series),
            to=message.addresses.one(kind),
            devices=message.addresses.several(kind),
            message=message.id,
            validity_ms=patience_ms(message, step, now_ms),
        )

    def _said(self, message: Message, step: Step) -> tuple[dict[str, Any], bool]:
        """What the step says, by what a submission calls it, and whether that is of this message
        alone."""
        said = content_said(message, self._versions).of(step.channel)
        personal = bool(message.content_of) or message.links is not None
        if message.links is not None and self.links is not None:
            said = self.links.written(said, message.links, message.current)
            said = with_picture(said, message, self.links.rules.root, self.links.key)
        url: str | None = None
        writer = self._unsubscribe if message.category == "marketing" else None
        if writer is not None and writer.is_asked_by(step.channel, said):
            said, url = writer.written(message, said)
            personal = True
        fields = msgspec.structs.asdict(said)  # a submission calls them the same
        fields["text"] = said.text or ""
        fields["sender"] = fields.get("sender") or self._sender
        fields["unsubscribe_url"] = url
        return fields, personal


def content_said(message: Message, versions: Mapping[bytes, Version]) -> Content:
    """What the message says on the channel of its current step; `versions` has what was read.
    Raises NoContentError, and what reading it raises."""
    if not message.content_of:
        if not message.content:
            raise NoContentError
        return content_codec.decode(message.content)
    version = versions.get(message.content_of)
    if version is None:
        raise NoContentError
    own = content_codec.decode(message.content) if message.content else NO_WORDS
    return version.said(own, message.vars or {}, message.step.channel)
