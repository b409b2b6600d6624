"""What the messages of one batch share of their submissions, and what each says alone."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.core.addresses import Addresses
from gateway.core.campaigns.campaign_words import version_of
from gateway.core.channels import EmailContent, SmsContent
from gateway.core.links.tracking import LinkWriter
from gateway.core.links.urls import LinkRules
from gateway.core.people.unsubscribing import UnsubscribeWriter
from gateway.core.records.content import Content, content_codec, content_with
from gateway.core.records.links import Tracked
from gateway.core.records.message import Message
from gateway.dispatch.worker.submission import SubmissionWriter
from providers.contract import Category, Submission
from tests.worlds.cascade_world import T0, World, request

ROOT, KEY = "https://k.shop.example", b"k" * 32
PLAIN = Content("Autumn sale https://shop.example/a")
STOPPABLE = Content("Autumn sale, stop: {{unsubscribe}}")
MAIL = content_with("", {"email": EmailContent(subject="Sale", text="Autumn sale")})
NAMED = content_with("Autumn sale", {"sms": SmsContent(text="Sale", sender="Autumn")})
UNSAID = content_with("", {"sms": SmsContent(sender="Autumn")})
VERSION = version_of(content_codec.encode(Content("Hello {{name}}")))


def message(
    number: int,
    content: Content,
    channel: str = "sms",
    category: Category = "marketing",
    links: Tracked | None = None,
    name: str = "",
) -> Message:
    to = Addresses(f"7916123456{number}", f"ann{number}@shop.example")
    made = World(None, request(addresses=to)).message
    made.id = f"{made.id[:-1]}{number}"
    made.steps[0].channel, made.category = channel, category
    made.content, made.links = content_codec.encode(content), links
    if name:
        made.content_of, made.vars = VERSION.id, {"name": name}
    return made


def writer() -> SubmissionWriter:
    made = SubmissionWriter("Shop", {VERSION.id: VERSION}, UnsubscribeWriter(ROOT, KEY))
    made.links = LinkWriter(LinkRules(f"{ROOT}/l"), KEY)
    return made


def test_a_batch_says_what_each_of_its_messages_would_say_alone() -> None:
    batch = [
        message(0, PLAIN),
        message(1, PLAIN, links=Tracked(7, (1,))),
        message(2, PLAIN),
        message(3, PLAIN, "viber"),
        message(4, STOPPABLE, category="transactional"),
        message(5, STOPPABLE),
        message(6, STOPPABLE),
        message(7, MAIL, "email"),
        message(8, MAIL, "email"),
        message(9, NAMED),
        message(0, UNSAID),
        message(1, UNSAID, name="Ann"),
        message(2, UNSAID, name="Bob"),
    ]
    together = writer()
    said = [together.write(each, T0) for each in batch]
    assert said == [writer().write(each, T0) for each in batch]

    def same(one: Submission, other: Submission) -> bool:
        rest = replace(other, ref=one.ref, to=one.to, message=one.message)
        return one == rest

    assert same(said[0], said[2])
    assert not same(said[0], said[1])
    assert not same(said[5], said[6]), "each has an address of its own"
    assert len({each.unsubscribe_url for each in said[7:9]}) == 2
    assert "{{unsubscribe}}" in said[4].text
    assert said[9].sender == "Autumn"
    assert [each.text for each in said[10:]] == ["", "Hello Ann", "Hello Bob"]


def test_what_messages_say_alike_is_read_once() -> None:
    together = writer()
    first = together.write(message(0, PLAIN), T0)
    assert together.write(message(1, PLAIN), T0).text is first.text
    assert together.write(message(2, STOPPABLE), T0).text != first.text
