"""What is wrong with words, addresses and URLs that are to be sent. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.core import addresses
from gateway.core.addresses import NAMED_MAILBOX_RULE
from gateway.core.channels import CHANNELS, HTML_BYTES_MAX, URL_RULE, ChannelContent
from gateway.core.links.urls import LinkRules, refusal_of, urls_of
from gateway.core.records.content import Content
from gateway.core.texts import has_control, is_blank
from gateway.ingress.api.bodies.names import CONTROL, control
from gateway.ingress.http.problems import RequestFault

BLANK = "Nothing of it can be seen: give a text."

# Fields that several channels have, by what they may hold.
_PLAIN_FIELDS = ("sender", "subject", "title")
_TEXT_FIELDS = ("text", "html")
_URL_FIELDS = ("image_url", "url")
_MAILBOX_FIELDS = (("from", "from_"), ("reply_to", "reply_to"))

_bad_in_url = re.compile(r"[\x00-\x20\x7f-\xa0\"<>\\^`{|}]").search


def text_fault(text: str) -> str | None:
    """Why a text cannot be sent; None when it can."""
    return CONTROL if has_control(text) else BLANK if is_blank(text) else None


def override_faults(channel: str, said: ChannelContent, *, alone: bool) -> Iterator[RequestFault]:
    """What is wrong with one channel's own words; a field means the same on each channel. `alone`:
    there is no text for every channel."""
    yield from _word_faults(channel, said)
    for name in _URL_FIELDS:
        value = getattr(said, name, None)
        if value is not None and not _is_url(value):
            yield RequestFault(f"/{channel}/{name}", URL_RULE)
    for key, name in _MAILBOX_FIELDS:
        value = getattr(said, name, None)
        if value is not None and addresses.named_mailbox_of(value) is None:
            yield RequestFault(f"/{channel}/{key}", NAMED_MAILBOX_RULE)
    html = getattr(said, "html", None)
    if html is not None and len(html.encode()) > HTML_BYTES_MAX:
        yield RequestFault(f"/{channel}/html", f"It may have {HTML_BYTES_MAX} bytes: shorten it.")
    button = getattr(said, "button", None)
    if button is None:
        return
    if detail := text_fault(button.caption):
        yield RequestFault(f"/{channel}/button/caption", detail)
    if not _is_url(button.url):
        yield RequestFault(f"/{channel}/button/url", URL_RULE)
    if said.text is None and alone:
        yield RequestFault(
            f"/{channel}/button", f"A button needs a text: give {channel}.text or text."
        )


def link_faults(content: Content, rules: LinkRules) -> Iterator[RequestFault]:
    """What is wrong with where its links would lead, by the place of each URL."""
    yield from _faults_of_urls("/text", ChannelContent(text=content.text or None), rules)
    for channel in content.overrides:
        if channel not in CHANNELS:
            continue
        said = content.of(channel)
        for name in ("text", "html", "url", "button"):
            value = getattr(said, name, None)
            if value is not None and not (name == "text" and value == content.text):
                place = f"/{channel}/button/url" if name == "button" else f"/{channel}/{name}"
                alone = CHANNELS[channel].content(**{name: value})
                yield from _faults_of_urls(place, alone, rules)


def _faults_of_urls(place: str, said: ChannelContent, rules: LinkRules) -> Iterator[RequestFault]:
    for url in urls_of(said):
        reason = None if rules.is_ours(url) else refusal_of(url, rules)
        if reason is not None:
            yield RequestFault(place, reason)


def _word_faults(channel: str, said: ChannelContent) -> Iterator[RequestFault]:
    """What one channel says that cannot be sent or seen."""
    for name in _PLAIN_FIELDS:
        value = getattr(said, name, None)
        if value is not None and (control(value) is not None or is_blank(value)):
            yield RequestFault(f"/{channel}/{name}", BLANK if is_blank(value) else CONTROL)
    for name in _TEXT_FIELDS:
        value = getattr(said, name, None)
        if value is not None and (detail := text_fault(value)):
            yield RequestFault(f"/{channel}/{name}", detail)


def _is_url(url: str) -> bool:
    if _bad_in_url(url) is not None:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
