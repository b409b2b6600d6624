"""What is wrong with what a campaign is to say. Pure.

A content keeps to the rules of a message's, with its places filled by one letter each: what they
are filled with is held against the rules again with each message.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set

import msgspec

from gateway.core.campaigns.campaign_words import (
    PERCENT_RULE,
    VARIANT_RULE,
    VARIANTS_MAX,
    CampaignContent,
    CampaignWords,
    Variant,
    drafts_of,
)
from gateway.core.campaigns.campaigns import HOLDOUT_PARTS
from gateway.core.channels import CHANNELS
from gateway.core.records.content import NO_WORDS
from gateway.core.texts import has_control, is_blank
from gateway.ingress.api.messages.content_faults import override_faults, text_fault
from gateway.ingress.http.problems import RequestFault


def words_with(
    before: CampaignWords,
    given: Set[str],
    content: CampaignContent | None,
    variants: Sequence[Variant] | None,
) -> CampaignWords:
    """What is said with the keys that were given."""
    return CampaignWords(
        content if "content" in given else before.content,
        tuple(variants or ()) if "variants" in given else before.variants,
    )


def words_faults(words: CampaignWords) -> Iterator[RequestFault]:
    """What is wrong with them; of variants once the campaign's content is right."""
    faults = list(_variant_faults(words.variants))
    if words.content is not None:
        faults += _content_faults(CampaignWords(words.content), "/content")
    if faults:
        yield from faults
        return
    for place, variant in enumerate(words.variants):
        whole = msgspec.structs.replace(variant, percent=100.0)
        one = CampaignWords(words.content, (whole,))
        yield from _content_faults(one, f"/variants/{place}/content")


def _variant_faults(variants: Sequence[Variant]) -> Iterator[RequestFault]:
    if len(variants) > VARIANTS_MAX:
        yield RequestFault("/variants", f"There may be {VARIANTS_MAX}: name fewer.")
    names: set[str] = set()
    for place, variant in enumerate(variants):
        name = variant.name
        if name in names or has_control(name) or is_blank(name):
            yield RequestFault(f"/variants/{place}/name", VARIANT_RULE)
        names.add(name)
        if not variant.share:
            yield RequestFault(f"/variants/{place}/percent", PERCENT_RULE)
    if sum(variant.share for variant in variants) > HOLDOUT_PARTS:
        yield RequestFault("/variants", "Together they are more than 100 per cent of people.")


def _content_faults(words: CampaignWords, pointer: str) -> Iterator[RequestFault]:
    """Of the first that they come to."""
    version = drafts_of(words)[0].version
    if version is None:
        return
    content = version.said(NO_WORDS, defaultdict(lambda: "x"))
    if content.text and (detail := text_fault(content.text)):
        yield RequestFault(f"{pointer}/text", detail)
    for channel in content.overrides:
        if channel not in CHANNELS:
            continue
        try:
            said = content.of(channel)
        except msgspec.ValidationError as error:
            yield RequestFault(f"{pointer}/{channel}", f"{error}.")
            continue
        if not said.text:
            said = msgspec.structs.replace(said, text=None)
        for fault in override_faults(channel, said, alone=not content.text):
            yield RequestFault(f"{pointer}{fault.pointer}", fault.detail)
