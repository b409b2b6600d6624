"""The picture's code names message and step; who guesses finds nothing."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.channels import EmailContent, SmsContent
from gateway.core.ids import new_id
from gateway.core.reactions.opens import Opened, code_of, opened_of, with_picture
from tests.worlds.cascade_world import World

KEY = b"k" * 32
ROOT = "https://k.shop.example"
IDS = st.builds(new_id, st.integers(0, 2**45 - 1), st.integers(0, 1023), st.integers(0, 2**45 - 1))


@given(st.builds(Opened, IDS, st.integers(0, 7)))
def test_a_code_says_what_was_opened_under_its_key_alone(opened: Opened) -> None:
    code = code_of(opened, KEY)
    assert len(code) == 22
    assert opened_of(code, KEY) == opened
    assert opened_of(code, b"o" * 32) is None or opened_of(code, b"o" * 32) != opened


@given(st.text(max_size=30) | st.from_regex(r"[\w-]{22}", fullmatch=True))
def test_whatever_is_no_code_is_nobodys(code: str) -> None:
    found = opened_of(code, KEY)
    assert found is None or code_of(found, KEY)[:21] == code[:21]


@pytest.mark.parametrize(
    ("html", "before", "after"),
    [
        ("<p>Hi</p>", "<p>Hi</p>", ""),
        ("<BODY>Hi</Body ></html>", "<BODY>Hi", "</Body ></html>"),
        ("</body>a</body>", "</body>a", "</body>"),
        ("</body>a</body", "</body>a</body", ""),
    ],
)
def test_the_picture_stands_at_the_end_of_the_page(html: str, before: str, after: str) -> None:
    message = World().message
    said = with_picture(EmailContent(subject="A", html=html), message, ROOT, KEY)
    code = code_of(Opened(message.id, 0), KEY)
    picture = f'<img src="{ROOT}/o/{code}.gif" width="1" height="1" alt="">'
    assert said == EmailContent(subject="A", html=before + picture + after)


def test_a_page_that_ends_many_times_is_looked_at_once() -> None:
    """From each of the ends it took the square of the length: a hundred times as long, or more."""
    many = EmailContent(subject="A", html="</body>" * 20_000 + "<" * 140_000)
    began = time.process_time()
    said = with_picture(many, World().message, ROOT, KEY)
    assert time.process_time() - began < 1
    assert said != many


def test_what_is_no_html_has_none() -> None:
    for said in (EmailContent(subject="A", text="Hi"), SmsContent(text="Hi")):
        assert with_picture(said, World().message, ROOT, KEY) == said
