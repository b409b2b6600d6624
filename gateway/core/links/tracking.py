"""URLs of a message become links: which ones, for what length they are priced, and what is sent.
Pure.

Each URL that a step says is one link of that step, however often it stands there; a link or page of
ours stays as it is. A code has one length, so parts and price are known before there is a code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.core.channels import CHANNELS, ChannelContent, Until
from gateway.core.links.link_codes import CODE_CHARS, code_of
from gateway.core.links.urls import LinkRules, Said, in_content, in_text, target_of, urls_of
from gateway.core.people import unsubscribing
from gateway.core.records.content import Content
from gateway.core.records.links import StepLinks, Tracked
from gateway.core.records.message import Step, StepStatus
from gateway.core.records.request import MessageRequest

_ANY_CODE = "x" * CODE_CHARS


def text_to_price(request: MessageRequest, channel: str, rules: LinkRules) -> str:
    """The text on a channel, as long as it will be with its links."""
    text = request.content.text_for(channel)
    if "{{" in text and request.category == "marketing":
        text = unsubscribing.text_to_price(text, rules.root)
    if not request.tracked:  # as almost always
        return text
    link = f"{rules.base_url}/{_ANY_CODE}"
    return in_text(text, lambda url: url if rules.is_ours(url) else link)


def until_on(request: MessageRequest, rules: LinkRules, channel: str, asked: Until) -> Until:
    """What a step on a channel waits for where that is asked: a link shows a click on any, and
    nothing else."""
    shown = CHANNELS[channel].can_show(asked)
    if asked != "clicked" or shown == asked or not request.tracked:
        return shown
    content = request.content
    clicks = not content.lacks(channel) and _tracked(content.of(channel), rules)
    return asked if clicks else shown


def links_of(content: Content, steps: Iterable[Step], rules: LinkRules) -> list[StepLinks]:
    """Where the links of each step lead; a step that is skipped has none."""
    return [
        StepLinks(step.channel, targets_of(content.of(step.channel), rules))
        if step.status != StepStatus.SKIPPED
        else StepLinks(step.channel, ())
        for step in steps
    ]


def targets_of(said: ChannelContent, rules: LinkRules) -> tuple[str, ...]:
    """Where the links of what is said on a channel lead, in their order."""
    return tuple(target_of(url) for url in _tracked(said, rules))


class LinkWriter(msgspec.Struct, frozen=True):
    """Writes links in the place of URLs; `key` makes codes of their numbers."""

    rules: LinkRules
    key: bytes

    def written(self, said: Said, links: Tracked, step: int) -> Said:
        """What a step says with its links. Where other URLs are found in it than when the message
        was accepted, because base address or version changed meanwhile, it is said as it is."""
        urls, numbers = _tracked(said, self.rules), links.numbers_of(step)
        if len(urls) != len(numbers):
            return said
        link = {
            url: f"{self.rules.base_url}/{code_of(number, self.key)}"
            for url, number in zip(urls, numbers, strict=True)
        }
        return in_content(said, lambda url: link.get(url, url))


def _tracked(said: ChannelContent, rules: LinkRules) -> Sequence[str]:
    return [url for url in urls_of(said) if not rules.is_ours(url)]
