"""URLs where people write them, what links may lead to, and codes that nobody can guess."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.admission import Admitted, admit
from gateway.core.channels import CHANNELS, Button, ViberContent
from gateway.core.ids import new_id, packed_id, unpacked_id
from gateway.core.links.link_codes import (
    LINKS_A_PLACE,
    NUMBERS,
    PLACES,
    RANGES,
    LinkPlace,
    code_of,
    number_at,
    number_of,
    place_of,
)
from gateway.core.links.tracking import LinkWriter, targets_of
from gateway.core.links.urls import (
    LinkRules,
    in_html,
    in_text,
    refusal_of,
    target_of,
    urls_of,
    utm_of,
)
from gateway.core.people.opt_outs import NONE
from gateway.core.plan import Plan, plan
from gateway.core.policy import RouteStep
from gateway.core.records.content import Content, content_with
from gateway.core.records.links import Tracked
from gateway.core.segments import parts
from tests.worlds.cascade_world import HOUR, T0, policy, request

KEY = b"k" * 32
RULES = LinkRules("https://k.example")
numbers = st.integers(min_value=0, max_value=NUMBERS - 1)


@given(numbers, numbers)
def test_a_code_has_one_length_and_one_number(number: int, other: int) -> None:
    code = code_of(number, KEY)
    assert len(code) == 8
    assert code.isalnum()
    assert number_of(code, KEY) == number
    assert (code_of(other, KEY) == code) == (other == number)


def test_numbers_in_a_row_have_codes_that_share_nothing() -> None:
    codes = [code_of(number, KEY) for number in range(2_000)]
    assert len({code[:4] for code in codes}) > 1_990
    assert len({code[4:] for code in codes}) > 1_990
    assert code_of(1, b"another") != code_of(1, KEY)


@pytest.mark.parametrize("text", ["", "abc", "AbCdEfG-", "AbCdEfGhI", "АбвгдежЗ", "AbCdEf1²"])
def test_what_is_no_code_has_no_number(text: str) -> None:
    assert number_of(text, KEY) is None


@given(
    st.builds(
        LinkPlace,
        st.integers(0, 1023),
        st.integers(0, RANGES - 1),
        st.integers(0, PLACES - 1),
        st.integers(0, LINKS_A_PLACE - 1),
    )
)
def test_a_number_names_its_place(place: LinkPlace) -> None:
    assert place_of(number_at(place)) == place
    assert number_at(place) < NUMBERS


@given(st.integers(0, 2**45 - 1), st.integers(0, 1023), st.integers(0, 2**45 - 1))
def test_an_id_is_packed_whole(now_ms: int, shard: int, noise: int) -> None:
    id_ = new_id(now_ms, shard, noise)
    assert unpacked_id(packed_id(id_)) == id_


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("See https://shop.example/a?b=1&c=2.", ["https://shop.example/a?b=1&c=2"]),
        ("(https://shop.example/a), ok", ["https://shop.example/a"]),
        ("https://en.example/wiki/A_(b) and", ["https://en.example/wiki/A_(b)"]),
        ("Акция: https://магазин.рф/осень!", ["https://магазин.рф/осень"]),
        ("«https://a.example» “http://b.example”", ["https://a.example", "http://b.example"]),
        ("<https://a.example>", ["https://a.example"]),
        ("HTTPS://A.EXAMPLE/X", ["HTTPS://A.EXAMPLE/X"]),
        ("см.https://a.example/?n=%D0%90...", ["https://a.example/?n=%D0%90"]),
        ("https://a.example/#x, https://a.example/#x", ["https://a.example/#x"]),
        ("https://a.example?x=[1]", ["https://a.example?x=[1]"]),
        ("line\nhttps://a.example\u00a0next", ["https://a.example"]),
        ("ftp://a.example http:// https://. www.a.example", []),
    ],
)
def test_urls_are_found_as_people_write_them(text: str, found: list[str]) -> None:
    sms = CHANNELS["sms"].content(text=text)
    assert urls_of(sms) == found


@given(st.text(alphabet="abЖ .,;:!?()[]{}<>\"'\n/#&=-", max_size=40), st.text(max_size=20))
def test_only_urls_change(before: str, after: str) -> None:
    """What stands around one comes back as it was, whatever it is."""
    text = f"{before} https://a.example/x {after}"
    changed = in_text(text, lambda url: "LINK" if url == "https://a.example/x" else url)
    assert changed == f"{before} LINK {after}"
    assert in_text(text, lambda url: url) == text


@pytest.mark.parametrize("tag", ["<a ", "<area ", "<a x='", '<a b="c" ', "<a \"'"])
def test_a_page_of_tags_that_do_not_end_is_read_once(tag: str) -> None:
    page = tag * (32_768 // len(tag))
    began = time.process_time()
    assert in_html(page, lambda url: url) == page
    assert time.process_time() - began < 2  # each tag to the end of the page took 4 to 28 s


def test_a_tag_within_a_tag_that_does_not_end_is_a_link() -> None:
    page = "<a title='<b>' <a class=x href=https://shop.example/a>"
    assert in_html(page, lambda url: f"{url}!") == (
        "<a title='<b>' <a class=x href=\"https://shop.example/a!\">"
    )


def test_an_href_is_replaced_and_nothing_else_of_a_page() -> None:
    page = (
        '<link href="https://a.example/x.css"><a class="b" href="https://a.example/?a=1&amp;b=2">'
        "https://a.example/</a><A HREF=https://b.example/>x</A><area href='https://c.example/'>"
        '<a href="mailto:x@a.example"><a data-href="https://d.example/" title="a>b">'
    )
    found: list[str] = []

    def link(url: str) -> str:
        found.append(url)
        return "https://k.example/L"

    changed = in_html(page, link)
    assert found == ["https://a.example/?a=1&b=2", "https://b.example/", "https://c.example/"]
    assert changed.lower().count('href="https://k.example/l"') == 3
    assert "mailto:x@a.example" in changed
    assert "x.css" in changed
    assert "d.example" in changed


@pytest.mark.parametrize(
    ("href", "url"),
    [
        ("?a=1&region=7&currency=EUR&section=2&param=3", None),  # &reg, &curren, &sect, &para
        ("?a=1&copy=2&lt=3&amp=4", None),
        ("?a=1&amp;copy=2&amp;region=3", "?a=1&copy=2&region=3"),
        ("?a=1&copy;&notit;&#38;b=2&#x26c=3", "?a=1©&notit;&b=2ɬ=3"),
        ("?a=1&nothing;&copy", "?a=1&nothing;©"),
    ],
)
def test_a_link_leads_where_browsers_read_the_page(href: str, url: str | None) -> None:
    """A name without its semicolon is no character before a letter, a digit or "="."""
    page = f'<a href="https://a.example/{href}">'
    assert in_html(page, lambda target: quote(target, safe="")) == (
        f'<a href="{quote(f"https://a.example/{url or href}", safe="")}">'
    )


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://магазин.рф/осень?q=да#я", "https://xn--80aairftm.xn--p1ai/%D0%BE%D1%81%D0%B5"),
        ("https://a.example/%D0%BE?x=a%20b", "https://a.example/%D0%BE?x=a%20b"),
        ("HTTP://A.Example:8080/X", "http://a.example:8080/X"),
    ],
)
def test_a_browser_is_sent_to_an_address_in_ascii(url: str, target: str) -> None:
    assert target_of(url).startswith(target)
    assert target_of(url).isascii()


def test_parameters_are_added_where_they_are_not_there() -> None:
    rules = replace(RULES, utm={"utm_source": "{app}", "utm_medium": "{channel}", "utm_id": "{x}"})
    utm = utm_of(rules, {"app": "shop", "channel": "", "x": "осень"})
    assert utm == {"utm_source": "shop", "utm_id": "осень"}
    assert target_of("https://a.example/?utm_source=me#end", utm) == (
        "https://a.example/?utm_source=me&utm_id=%D0%BE%D1%81%D0%B5%D0%BD%D1%8C#end"
    )


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "javascript:alert(1)",
        "https://user:pass@a.example/",
        "https://localhost/",
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::1]/",
        "http://10.1.2.3/",
        "http://db.internal/",
        "https://a.example/" + "x" * 2_048,
        "https://[bad/",
    ],
)
def test_a_link_leads_to_public_hosts_alone(url: str) -> None:
    assert refusal_of(url, RULES) is not None


def test_a_link_leads_to_the_named_hosts_alone() -> None:
    rules = replace(RULES, hosts=frozenset(("shop.example", "xn--80aairftm.xn--p1ai")))
    assert refusal_of("https://shop.example/a", rules) is None
    assert refusal_of("https://МАГАЗИН.рф/a", rules) is None
    assert refusal_of("https://evil.example/shop.example", rules) is not None
    assert refusal_of("https://shop.example.evil.example/", rules) is not None
    assert refusal_of("https://shop.example@evil.example/", rules) is not None


@pytest.mark.parametrize(
    ("base", "url", "ours"),
    [
        ("https://k.example", "https://k.example/AbCdEfGh", True),
        ("https://k.example", "https://K.example:443/anything", True),
        ("https://k.example", "http://k.example/AbCdEfGh", False),
        ("https://a.example/l", "https://a.example/l/AbCdEfGh", True),
        ("https://a.example/l", "https://a.example/u/AbCdEfGh", True),
        ("https://a.example/l", "https://a.example/list", False),
    ],
)
def test_what_is_ours_stays_as_it_is(base: str, url: str, ours: bool) -> None:
    rules = LinkRules(base)
    assert rules.is_ours(url) == ours
    sms = CHANNELS["sms"].content(text=f"see {url}")
    assert targets_of(sms, rules) == (() if ours else (target_of(url),))


SAID = "See https://shop.example/a, https://shop.example/a"


def test_what_cannot_be_read_is_not_ours() -> None:
    assert not RULES.is_ours("https://k.example:99999/AbCdEfGh")
    assert not RULES.is_ours("https://[k.example/AbCdEfGh")


LONG = "Осень: скидки 20 % до воскресенья https://shop.example/" + "a" * 60


def test_parts_are_counted_with_links() -> None:
    assert parts(LONG) == 2
    rules = replace(policy(), links=RULES)
    plain, tracked = (request(content=Content(LONG), tracked=each) for each in (False, True))
    for each, count in ((plain, 2), (tracked, 1)):
        way = plan(each, [], rules, T0)
        assert isinstance(way, Plan)
        assert [step.parts for step in way.steps if step.channel == "sms"] == [count]


def test_a_step_with_a_link_waits_for_a_click_where_that_is_asked() -> None:
    step = RouteStep(("sms",), HOUR, 10_000, until="clicked", react_ms=HOUR)
    rules = replace(policy(steps=(step,)), links=RULES)
    for text, tracked, until in (
        (LONG, True, "clicked"),
        (LONG, False, "delivered"),
        ("no link", True, "delivered"),
    ):
        way = plan(request(content=Content(text), tracked=tracked), [], rules, T0)
        assert isinstance(way, Plan)
        assert [(s.until, s.react_ms) for s in way.steps] == [
            (until, HOUR if until == "clicked" else 0)
        ]


def test_a_link_does_not_show_that_a_text_was_seen() -> None:
    step = RouteStep(("sms",), HOUR, 10_000, until="seen", react_ms=HOUR)
    rules = replace(policy(steps=(step,)), links=RULES)
    way = plan(request(content=Content(LONG), tracked=True), [], rules, T0)
    assert isinstance(way, Plan)
    assert [(s.until, s.react_ms) for s in way.steps] == [("delivered", 0)]


def test_each_step_has_links_of_its_own_of_the_length_it_was_priced_with() -> None:
    button = Button(caption="To the shop", url="https://shop.example/b")
    viber = ViberContent(text=SAID, button=button)
    content = content_with(SAID, {"viber": viber})
    rules = replace(policy(), links=RULES)
    asked = request(content=content, tracked=True)
    decision = admit(asked, [], NONE, rules, T0)
    assert isinstance(decision, Admitted)
    assert [step.targets for step in decision.links] == [
        ("https://shop.example/a", "https://shop.example/b"),
        ("https://shop.example/a",),
    ]
    links = Tracked(7, (2, 1))
    write = LinkWriter(RULES, KEY)
    first, second, third = (f"https://k.example/{code_of(n, KEY)}" for n in (7, 8, 9))
    said = write.written(viber, links, 0)
    assert said.text == f"See {first}, {first}"
    assert said.button is not None
    assert said.button.url == second
    assert write.written(content.of("sms"), links, 1).text == f"See {third}, {third}"
    changed = content.of("sms")
    assert write.written(changed, Tracked(7, (2, 2)), 1) == changed
