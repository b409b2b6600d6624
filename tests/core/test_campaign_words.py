"""What is filled into a campaign's content, and who is said which variant of it."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import admission
from gateway.core.campaigns.campaign_words import (
    Draft,
    Version,
    drafts_of,
    hash_of,
    pack_words,
    unpack_words,
    version_of,
)
from gateway.core.campaigns.campaigns import (
    HOLDOUT_PARTS,
    VARIANT_DRAW,
    Campaign,
    Declared,
    share_of,
)
from gateway.core.campaigns.placeholders import (
    Template,
    as_html,
    as_line,
    as_text,
    as_url,
    template_of,
)
from gateway.core.people.opt_outs import NONE
from gateway.core.records.content import NO_WORDS, Content
from gateway.core.records.person import Person
from gateway.core.records.request import Saying
from tests.worlds.cascade_world import T0, policy, request

URL = "https://x.example/i.png"
NAMES = st.from_regex(r"\A[\w.-]{1,64}\Z")
# Braces alone, in pairs, and around what is no name.
LITERALS = st.text(st.sampled_from("{} ab!\n/:"), max_size=12).filter(
    lambda text: not re.search(r"\{\{ *[\w.-]{1,64} *\}\}", text)
)
VALUES = st.text(max_size=20)


def words(**said: Any) -> tuple[Draft, ...]:
    return drafts_of(unpack_words(msgspec.json.encode(said)))


def only(**content: Any) -> Version:
    (draft,) = words(content=content)
    assert draft.version is not None
    return draft.version


@given(st.text(st.sampled_from("{} ab_-.\n"), max_size=30))
def test_a_text_without_a_name_in_two_braces_stands_for_itself(text: str) -> None:
    if re.search(r"\{\{ *[ab_.-]+ *\}\}", text) is None:
        assert template_of(text, as_text) is None


@given(LITERALS, NAMES, VALUES, LITERALS)
def test_a_name_becomes_its_value_and_nothing_else_changes(
    before: str, name: str, value: str, after: str
) -> None:
    template = template_of(f"{before}\n{{{{{name}}}}}\n{after}", as_text)
    assert template is not None
    assert template.fill({name: value}) == f"{before}\n{value}\n{after}"
    assert name in template.names
    with pytest.raises(KeyError):
        template.fill({})


@given(VALUES)
def test_what_is_filled_in_is_never_filled_in_itself(value: str) -> None:
    template = template_of("{{a}}{{b}}", as_text)
    assert template is not None
    assert template.fill({"a": "{{b}}", "b": value}) == "{{b}}" + value


@given(VALUES)
def test_in_html_a_value_is_text_and_in_a_line_it_breaks_none(value: str) -> None:
    escaped = as_html(value)
    assert not set("<>\"'") & set(escaped)
    assert html.unescape(escaped) == html.unescape(html.escape(value))
    line = as_line(value)
    assert len(line.splitlines()) <= 1
    assert line.split() == value.split()


@given(VALUES)
def test_in_a_url_a_value_is_one_piece_of_it(value: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.~%-]*", as_url(value))
    assert unquote(as_url(value)) == value


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("https://shop.example/?q={{v}}", "https://shop.example/?q=a%26%20b"),
        (
            "see (http://x.example/{{v}}/{{v}}) {{v}}",
            "see (http://x.example/a%26%20b/a%26%20b) a& b",
        ),
        ("https://x.example/o'neil?q={{v}}", "https://x.example/o'neil?q=a%26%20b"),
        ("as 'https://x.example/{{v}}'{{v}}", "as 'https://x.example/a%26%20b'a& b"),
        ("{{v}}", "a& b"),
        ("mailto:{{v}}", "mailto:a& b"),
        ("https://x.example/ {{ v }}", "https://x.example/ a& b"),
        ("{{{v}}}", "{a& b}"),
        ("{v} {{v {{}} {{a b}} {{v}}", "{v} {{v {{}} {{a b}} a& b"),
    ],
)
def test_a_place_within_a_url_in_a_text_is_percent_encoded(text: str, filled: str) -> None:
    template = template_of(text, as_text)
    assert template is not None
    assert template.fill({"v": "a& b"}) == filled


def test_each_field_is_escaped_for_what_it_is() -> None:
    value = 'a"<b>\r\n& c'
    version = only(
        text="{{v}}",
        viber={
            "image_url": "https://x.example/{{v}}.png",
            "button": {"caption": "{{v}}", "url": "https://x.example/{{v}}"},
        },
        sms={"sender": "{{v}}"},
        email={"subject": "{{v}}", "html": '<a href="https://x.example/{{v}}">{{v}}</a>'},
        push={"title": "{{v}}", "data": {"order": "{{v}}"}},
    )
    content = version.said(NO_WORDS, {"v": value})
    line, url = 'a"<b> & c', "a%22%3Cb%3E%0D%0A%26%20c"
    told = {name: msgspec.to_builtins(content.of(name)) for name in content.overrides}
    assert content.text == told["viber"]["text"] == value
    assert told["viber"]["image_url"] == f"https://x.example/{url}.png"
    assert told["viber"]["button"] == {"caption": line, "url": f"https://x.example/{url}"}
    assert told["sms"]["sender"] == told["email"]["subject"] == told["push"]["title"] == line
    text = "a&quot;&lt;b&gt;\r\n&amp; c"
    assert told["email"]["html"] == f'<a href="https://x.example/{url}">{text}</a>'
    assert told["push"]["data"] == {"order": value}
    assert version.names == {"v"}
    assert set(version.filled_channels) == {"viber", "sms", "email", "push"}


def test_what_says_more_closely_wins_key_by_key() -> None:
    (variant, rest) = words(
        content={
            "text": "all",
            "viber": {"text": "viber", "button": {"caption": "Go", "url": "https://x.example/"}},
        },
        variants=[
            {"name": "b", "percent": 25, "content": {"text": "b", "viber": {"text": "viber b"}}}
        ],
    )
    assert variant.version is not None
    assert rest.version is not None
    assert (variant.variant, variant.upto, rest.variant, rest.upto) == ("b", 2_500, "", 10_000)
    own = Content("own", {"viber": msgspec.Raw(msgspec.msgpack.encode({"image_url": URL}))})
    for version, said, all_say in (
        (variant.version, "viber b", "b"),
        (rest.version, "viber", "all"),
    ):
        assert version.said(NO_WORDS, {}).text == all_say
        mine = version.said(own, {})
        viber = msgspec.to_builtins(mine.of("viber"))
        assert mine.text == mine.text_for("sms") == "own"
        assert (viber["text"], viber["image_url"]) == (said, URL)
        assert viber["button"]["caption"] == "Go"


def test_a_name_that_own_words_stand_in_for_is_not_asked_for() -> None:
    version = only(text="{{name}}", viber={"image_url": "https://x.example/{{city}}"})
    assert version.said(Content("own"), {"city": "Omsk"}).text == "own"
    with pytest.raises(KeyError):
        version.said(Content("own"), {})
    assert version.said(Content("own"), {}, only="sms").text == "own", "of one channel alone"


def test_a_version_is_known_by_its_words_and_reads_back() -> None:
    version = only(text="{{a}} b", viber={"button": {"caption": "{{c}}", "url": "https://x.de"}})
    again = version_of(version.record)
    assert again == version
    assert again.id == hash_of(version.record)
    assert only(text="{{a}} b ").id != only(text="{{a}} b").id


def test_words_read_back_and_nothing_said_is_nothing() -> None:
    said = unpack_words(b'{"content":{"text":"a"},"variants":[]}')
    assert unpack_words(pack_words(said)) == said
    assert pack_words(unpack_words(b"{}")) == b""
    long = b'{"content":{"text":"%b{{ n }}"},"variants":[]}' % (b"a" * 999)
    assert unpack_words(pack_words(unpack_words(long))) == unpack_words(long)
    with pytest.raises(msgspec.DecodeError):
        unpack_words(long.replace(b"{{", b"a{{"))
    with pytest.raises(msgspec.DecodeError):
        unpack_words(b'{"content":{"text":"a","smoke":{"puffs":3}}}')


@given(st.lists(st.integers(1, 3_000), min_size=1, max_size=3), st.integers(0, 10**11))
def test_a_variant_is_drawn_by_campaign_and_person_for_good(shares: list[int], number: int) -> None:
    drafts = words(
        variants=[
            {"name": f"v{place}", "percent": share / 100, "content": {"text": "x"}}
            for place, share in enumerate(shares)
        ]
    )
    assert [draft.upto for draft in drafts[:-1]] == [
        sum(shares[: place + 1]) for place in range(len(shares))
    ]
    sayings = tuple(Saying(d.variant, d.upto, d.version, None) for d in drafts)
    rules = msgspec.structs.replace(
        policy(), declared=Declared({"autumn": Campaign(words=b"w")}, b"k" * 32)
    )

    def drawn(home: str) -> str:
        asked = request(to=f"{79160000000 + number % 10**7}", sayings=sayings)
        decision = admission.admit(asked, [Person()], NONE, rules, T0, home)
        assert isinstance(decision, admission.Admitted)
        assert decision.post.group.variant == decision.message.variant
        return decision.message.variant

    assert drawn("p:1") == drawn("p:1"), "by the home, not by the number that was named"
    assert drawn("") in {draft.variant for draft in drafts}


def test_variants_are_as_large_as_they_were_asked_for_and_drawn_apart_from_the_holdout() -> None:
    people = [f"p:7916{number:07}" for number in range(20_000)]
    held = {p for p in people if share_of(b"k", "spring", p) < HOLDOUT_PARTS // 2}
    first = {p for p in people if share_of(b"k", "spring", p, VARIANT_DRAW) < HOLDOUT_PARTS // 2}
    assert 0.48 < len(first) / len(people) < 0.52
    assert 0.23 < len(first & held) / len(people) < 0.27


def test_a_value_is_escaped_once_however_many_places_it_has() -> None:
    asked: list[str] = []

    def escape(value: str) -> str:
        asked.append(value)
        return f"<{value}>"

    template = Template((("a ", "x", escape), (" b ", "y", escape), (" c ", "x", escape)), ".")
    assert template.fill({"x": "1", "y": "2"}) == "a <1> b <2> c <1>."
    assert asked == ["1", "2"]
    both = Template((("", "x", as_url), (" ", "x", as_text)), "")
    assert both.fill({"x": "a b"}) == "a%20b a b"
