"""What a request says: its own words, and where it says nothing itself what its campaign does.

A name of which it brings no value, and what is too long or cannot be sent once it is filled in, are
faults at `/vars`. All variants are looked at, so that none of it depends on who is drawn for which.
Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from gateway.core.campaigns.campaign_words import Draft, Version
from gateway.core.channels import CHANNELS, TEXT_MAX
from gateway.core.policy import AppRule
from gateway.core.records.content import Content
from gateway.core.records.request import Saying
from gateway.ingress.api.messages.app_bounds import sender_faults
from gateway.ingress.api.messages.content_faults import override_faults, text_fault
from gateway.ingress.http.problems import RequestFault

DraftsOf = Callable[[bytes], Sequence[Draft] | None]


class WordsUnread(msgspec.Struct, frozen=True):
    """What a campaign says is to be read first: it names these words."""

    campaign: str
    words: bytes


class _Values(dict[str, str]):
    """Notes the names of which there is no value; their own stand there."""

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__(given)
        self.missing: dict[str, None] = {}

    def __missing__(self, name: str) -> str:
        self.missing[name] = None
        return name


def sayings_of(
    own: Content, given: Mapping[str, str] | None, drafts: Sequence[Draft], rule: AppRule
) -> tuple[tuple[Saying, ...], list[Content], list[RequestFault]]:
    """What the request says in each variant, that filled in, and what is wrong with it."""
    values = _Values(given or {})
    sayings, contents = [], []
    faults: dict[RequestFault, None] = {}
    for draft in drafts:
        version, content, used = draft.version, own, None
        if version is not None:
            content = version.said(own, values)
            used = {name: values[name] for name in version.names if name in values} or None
            if not values.missing:
                faults |= dict.fromkeys(_filled_faults(version, content))
            if rule.senders is not None:
                faults |= dict.fromkeys(_sender_faults(content, rule))
        sayings.append(Saying(draft.variant, draft.upto, version, used))
        contents.append(content)
    for name in values.missing:
        detail = f"Required: the campaign's content fills in '{name}'."
        faults[RequestFault(f"/vars/{name}", detail)] = None
    return tuple(sayings), contents, list(faults)


def _filled_faults(version: Version, content: Content) -> Iterator[RequestFault]:
    """What is wrong with a content only once it is filled in."""
    if version.text_is_filled:
        fault = text_fault(content.text)
        if len(content.text) > TEXT_MAX:
            fault = f"It has more than {TEXT_MAX} characters."
        if fault is not None:
            yield _filled_in("text", fault)
    for channel in version.filled_channels:
        try:
            said = content.of(channel)
        except msgspec.ValidationError as error:
            reason, _, path = str(error).partition(" - at `$")
            yield _filled_in(channel + path.rstrip("`"), f"{reason}.")
            continue
        for found in override_faults(channel, said, alone=False):
            yield _filled_in(found.pointer[1:].replace("/", "."), found.detail)


def _filled_in(place: str, detail: str) -> RequestFault:
    return RequestFault("/vars", f"Filled in, the campaign's {place} cannot be sent. {detail}")


def _sender_faults(content: Content, rule: AppRule) -> Iterator[RequestFault]:
    for channel in content.overrides:
        if channel in CHANNELS:
            yield from sender_faults(channel, content.of(channel), rule)
