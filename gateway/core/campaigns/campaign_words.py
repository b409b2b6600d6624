"""What a declared campaign says: its content, the variants of it, and what of that is said to one
person. Pure.

A place counts as one letter where lengths are bounded: how long it is filled in is asked of each
message. What says more closely wins, key by key: a variant's content before the campaign's, a
message's own words before both. What a variant comes to is a version, known by the hash of its
content: a message keeps that and its vars. To whom no variant is drawn the campaign's content is
said, and where there is none the message's own words alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from gateway.core.campaigns.campaigns import HOLDOUT_PARTS
from gateway.core.campaigns.placeholders import (
    Escape,
    Template,
    as_html,
    as_line,
    as_text,
    as_url,
    template_of,
    with_letters,
)
from gateway.core.channels import CHANNELS, MessageText, with_channels
from gateway.core.records.content import Content, content_codec

HASH_BYTES = 12
VARIANTS_MAX = 16
VARIANT_RULE = "1 to 64 characters that can be seen; each name once."
PERCENT_RULE = "A share of people above 0, in steps of 0.01; all of them are at most 100."

# How what is filled in is escaped, by the name of its field on every channel; others are one line.
_ESCAPES: Mapping[str, Escape] = {
    "text": as_text,
    "html": as_html,
    "url": as_url,
    "image_url": as_url,
    "data": as_text,
}
_SHARES_A_PERCENT = HOLDOUT_PARTS // 100

_fields_of = msgspec.msgpack.Decoder(dict[str, Any]).decode
_packed = msgspec.msgpack.Encoder().encode


class ContentBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a campaign says, as a message would: `{{name}}` is filled in from the `vars` of each.
    Until then it counts as one character."""

    text: MessageText | None = None


if TYPE_CHECKING:
    CampaignContent = ContentBody
else:
    CampaignContent = with_channels("CampaignContent", ContentBody)


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said to a share of people, drawn by campaign and person: what differs from the
    campaign's content."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64, description=VARIANT_RULE)]
    percent: Annotated[float, msgspec.Meta(gt=0, le=100, description=PERCENT_RULE)]
    content: CampaignContent

    @property
    def share(self) -> int:
        return round(self.percent * _SHARES_A_PERCENT)


class CampaignWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is declared of it."""

    content: CampaignContent | None = None
    variants: tuple[Variant, ...] = ()


_encode_words = msgspec.json.Encoder().encode
_decode_words = msgspec.json.Decoder(dict[str, Any]).decode


def shortened(declared: dict[str, Any]) -> dict[str, Any]:
    """Parsed JSON of which `content` and `variants` have one letter in each place."""
    short = dict(declared)
    if "content" in short:
        short["content"] = with_letters(short["content"])
    if isinstance(variants := short.get("variants"), list):
        short["variants"] = [
            each | {"content": with_letters(each["content"])}
            if isinstance(each, dict) and "content" in each
            else each
            for each in variants
        ]
    return short


def restored(read: Any, given: Any) -> Any:
    """What was read of a `shortened` JSON, with the texts that were given."""
    if isinstance(read, msgspec.Struct):
        keys = zip(read.__struct_fields__, read.__struct_encode_fields__, strict=True)
        texts = {
            name: restored(getattr(read, name), given[key]) for name, key in keys if key in given
        }
        return msgspec.structs.replace(read, **texts)
    if isinstance(read, list | tuple):
        return type(read)(restored(*both) for both in zip(read, given, strict=True))
    return given if isinstance(read, str | dict) else read


def pack_words(words: CampaignWords) -> bytes:
    """Empty where nothing is said."""
    return _encode_words(words) if words != CampaignWords() else b""


def unpack_words(packed: bytes) -> CampaignWords:
    """Raises msgspec.DecodeError for what this version cannot read whole."""
    if not packed:
        return CampaignWords()
    given = _decode_words(packed)
    words: CampaignWords = restored(msgspec.convert(shortened(given), CampaignWords), given)
    return words


def hash_of(packed: bytes) -> bytes:
    """By which words and versions are known; of nothing it is empty."""
    return blake2b(packed, digest_size=HASH_BYTES).digest() if packed else b""


class Version(msgspec.Struct, frozen=True):
    """One version of a content: `record` is its Content as it is kept, `text` and `trees`, by
    channel, are the same with a Template for each text that has places."""

    id: bytes
    record: bytes
    text: str | Template
    trees: dict[str, dict[str, Any]]
    names: frozenset[str]
    filled_channels: tuple[str, ...]  # on which something is filled in

    @property
    def text_is_filled(self) -> bool:
        return isinstance(self.text, Template)

    def said(self, own: Content, values: Mapping[str, str], only: str | None = None) -> Content:
        """What is said with a message's own words; `only` on one channel. Raises KeyError for a
        name of which there is no value."""
        text = own.text or _filled(self.text, values)
        overrides = dict(own.overrides)
        for channel, tree in self.trees.items():
            if only is not None and channel != only:
                continue
            mine = _fields(own.overrides.get(channel))
            rest = {key: _filled(part, values) for key, part in tree.items() if key not in mine}
            overrides[channel] = msgspec.Raw(_packed(rest | mine))
        return Content(text, overrides)


class Draft(msgspec.Struct, frozen=True):
    """What is said to whoever stands below `upto`, of HOLDOUT_PARTS, and not below the one before.
    Without a `version` that is the message's own words alone."""

    variant: str  # empty: none
    upto: int
    version: Version | None


def drafts_of(words: CampaignWords) -> tuple[Draft, ...]:
    """All of them, in their order; the last goes up to the end."""
    found: list[Draft] = []
    upto = 0
    for variant in words.variants:
        upto += variant.share
        found.append(Draft(variant.name, upto, _version(words.content, variant.content)))
    if upto < HOLDOUT_PARTS:
        found.append(Draft("", HOLDOUT_PARTS, _version(words.content)))
    return tuple(found)


def version_of(record: bytes) -> Version:
    """Of a Content as it is kept. Raises what its codec raises."""
    content = content_codec.decode(record)
    text = template_of(content.text, as_text) or content.text
    trees = {name: _tree(_fields(raw)) for name, raw in content.overrides.items()}
    names = {name: _names(tree) for name, tree in trees.items()}
    filled = tuple(name for name in trees if name in CHANNELS and names[name])
    every = _names(text).union(*names.values())
    return Version(hash_of(record), record, text, trees, every, filled)


def _version(*bodies: ContentBody | None) -> Version | None:
    """Of contents, each of which goes before the one in front of it."""
    merged: dict[str, Any] = {}
    for body in bodies:
        for name, value in msgspec.to_builtins(body).items() if body is not None else ():
            told = merged.get(name, {})
            merged[name] = told | _given(value) if isinstance(value, dict) else value
    if not merged:
        return None
    text = merged.pop("text", "")
    raw = {name: msgspec.Raw(_packed(fields)) for name, fields in merged.items()}
    return version_of(content_codec.encode(Content(text, raw)))


def _fields(raw: msgspec.Raw | None) -> dict[str, Any]:
    """What is said of one channel, by key."""
    return _given(_fields_of(raw)) if raw is not None else {}


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _tree(fields: Mapping[str, Any], escape: Escape | None = None) -> dict[str, Any]:
    """With a Template for each text that has places. All of `data` is escaped in one way."""
    found: dict[str, Any] = {}
    for key, value in fields.items():
        how = escape or _ESCAPES.get(key, as_line)
        if isinstance(value, dict):
            found[key] = _tree(value, how if key in _ESCAPES else None)
        elif isinstance(value, str):
            found[key] = template_of(value, how) or value
        else:
            found[key] = value
    return found


def _names(part: Any) -> frozenset[str]:
    if isinstance(part, Template):
        return part.names
    if isinstance(part, dict):
        return frozenset().union(*map(_names, part.values()))
    return frozenset()


def _filled(part: Any, values: Mapping[str, str]) -> Any:
    if isinstance(part, Template):
        return part.fill(values)
    if isinstance(part, dict):
        return {key: _filled(each, values) for key, each in part.items()}
    return part
