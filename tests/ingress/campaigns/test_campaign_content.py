"""What a campaign says: declared, filled in for each message, and shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.campaigns.campaign_words import hash_of
from gateway.core.campaigns.campaigns import Campaign
from gateway.core.records.content import content_codec
from gateway.core.records.message import Message
from gateway.dispatch.worker.submission import content_said
from gateway.ingress.intake.admission_queue import ASKED_MAX
from gateway.redis.errors import RedisUnavailable
from gateway.store import shared_keys
from gateway.store.campaigns import declarations
from gateway.store.campaigns.declarations import Declarations
from gateway.store.installation.audit import Deed
from gateway.store.messages import reads
from gateway.store.requests.contents import Contents
from tests.ingress.campaigns.test_campaigns import MANAGED, PATH
from tests.ingress.campaigns.test_campaigns import declare as put
from tests.worlds import cascade_world
from tests.worlds.ingress_world import SALE, World, with_ingress

API_PAGE = Path(__file__).parents[3] / "docs" / "api.md"
BARE = {key: value for key, value in SALE.items() if key != "text"}
HELLO = {"text": "Hello {{name}}, {{city}} is near."}
ANNA = {"name": "Anna", "city": "Omsk"}


async def declare(world: World, **said: Any) -> Any:
    """At a time to which Redis, which drops by its own clock what is over, does not come."""
    world.clock.now_ms = max(world.clock.now_ms, cascade_world.T0)
    return await put(world, **said)


async def message(world: World, id_: str) -> Message:
    found = await reads.message(world.store, id_)
    assert found is not None
    return found


async def text_of(world: World, id_: str) -> str:
    """What would be sent on the message's channel now."""
    found = await message(world, id_)
    store = world.store
    versions = await store.contents.read_versions(store.redis, 0, [found.content_of])
    content = content_said(found, versions)
    return content.text_for(found.step.channel)


def faults(answer: Any) -> list[tuple[str, str]]:
    assert answer.status == 422, answer.json
    return [(error["pointer"], error["detail"]) for error in answer.json["errors"]]


@with_ingress(changed=MANAGED)
async def test_a_message_says_its_campaigns_content_with_its_vars(world: World) -> None:
    shown = await declare(world, content=HELLO)
    assert (shown["content"], shown["variants"]) == (HELLO, None)
    answer = await world.send(BARE | {"vars": ANNA | {"colour": "red"}})
    assert answer.status == 202
    id_ = answer.json["id"]
    kept = await message(world, id_)
    assert (kept.content, kept.vars) == (b"", ANNA)
    assert await text_of(world, id_) == "Hello Anna, Omsk is near."
    # A change holds for those that are accepted afterwards.
    await declare(world, content={"text": "Bye {{name}}"})
    other = await world.send(BARE | {"to": "+79161234568", "vars": {"name": "Ivan"}})
    assert await text_of(world, other.json["id"]) == "Bye Ivan"
    assert await text_of(world, id_) == "Hello Anna, Omsk is near."


@with_ingress(changed=MANAGED)
async def test_names_without_a_value_are_told_all_at_once(world: World) -> None:
    await declare(world, content=HELLO)
    told = faults(await world.send(BARE))
    assert [pointer for pointer, _ in told] == ["/vars/name", "/vars/city"]
    assert "'name'" in told[0][1]
    told = faults(await world.send(BARE | {"vars": {"name": "Anna"}}))
    assert [pointer for pointer, _ in told] == ["/vars/city"]
    told = faults(await world.send(BARE | {"vars": {"city": "Omsk"}, "category": "spam"}))
    assert {pointer for pointer, _ in told} == {"/vars/name", "/category"}
    batch = await world.call("POST", "/v1/messages", [BARE, BARE | {"vars": ANNA}])
    assert [item["outcome"] for item in batch.json] == ["rejected", "accepted"]


@with_ingress(changed=MANAGED)
async def test_what_cannot_be_sent_once_it_is_filled_in_is_refused(world: World) -> None:
    button = {"caption": "To {{shop}}", "url": "https://shop.example/{{path}}"}
    await declare(world, content={"text": "{{name}}", "viber": {"button": button}})
    good = {"name": "Anna", "shop": "us", "path": "a b"}
    for bad, words in (
        ({"name": "x" * 1001}, "text cannot be sent. It has more than 1000"),
        ({"name": ""}, "text cannot be sent. Nothing of it can be seen"),
        ({"name": "\x07"}, "Control characters"),
        ({"shop": "x" * 28}, "viber.button.caption cannot be sent. Expected `str` of length <= 30"),
        ({"path": "ж" * 200}, "viber.button.url"),
    ):
        told = faults(await world.send(BARE | {"vars": good | bad}))
        assert all(pointer == "/vars" for pointer, _ in told)
        assert any(words in detail for _, detail in told), told
    long = faults(await world.send(BARE | {"vars": good | {"more": "x" * 4096}}))
    assert [pointer for pointer, _ in long] == ["/vars"]
    assert (await world.send(BARE | {"vars": good})).status == 202


@with_ingress(changed=MANAGED)
async def test_lengths_are_those_of_what_is_filled_in(world: World) -> None:
    """However long the names of its places are."""
    place = "{{customer_first_name}}"
    button = {"caption": place + "a" * 29, "url": "https://shop.example/"}
    content: dict[str, Any] = {"text": place + "a" * 999, "viber": {"button": button}}
    more = {"email": {"subject": place + "a" * 254}, "push": {"title": "a" * 99 + place}}
    variant = {"name": "v", "percent": 100, "content": {"sms": {"text": "b" * 999 + place}}}
    shown = await declare(world, content=content | more, variants=[variant])
    assert shown["content"] == content | more
    assert shown["variants"] == [variant]
    declared = await declare(world, pace="600/m")
    assert (declared["content"], declared["variants"]) == (content | more, [variant])
    told = faults(await world.send(BARE | {"vars": {"customer_first_name": "ab"}}))
    assert {pointer for pointer, _ in told} == {"/vars"}
    answer = await world.send(BARE | {"vars": {"customer_first_name": "я"}})
    assert answer.status == 202
    assert await text_of(world, answer.json["id"]) == "я" + "a" * 999
    button["caption"] += "a"
    content["text"] += "a"
    long = await world.call("PUT", PATH, {"content": content}, key="finance-key")
    assert [pointer for pointer, _ in faults(long)] == [
        "/content/text",
        "/content/viber/button/caption",
    ]


@with_ingress(changed=MANAGED)
async def test_parts_and_price_are_those_of_what_is_filled_in(world: World) -> None:
    await declare(world, route="sms-only", content={"text": "{{name}}"})
    answer = await world.send(BARE | {"vars": {"name": "я" * 71}})
    dry = await world.call(
        "POST",
        "/v1/messages?dry_run=true",
        BARE | {"to": "+79161234568", "vars": {"name": "я" * 71}},
    )
    shown = (await world.call("GET", f"/v1/messages/{answer.json['id']}")).json
    assert shown["steps"][0]["parts"] == dry.json["explain"]["plan"][0]["parts"] == 2


@with_ingress(changed=MANAGED)
async def test_a_messages_own_words_go_before_its_campaigns(world: World) -> None:
    button = {"caption": "Go", "url": "https://shop.example/"}
    await declare(world, content={"text": "{{name}}", "viber": {"button": button}})
    own = await world.send(BARE | {"text": "Mine, {{name}}"})
    assert own.status == 202
    kept = await message(world, own.json["id"])
    assert content_codec.decode(kept.content).text == "Mine, {{name}}"
    assert await text_of(world, own.json["id"]) == "Mine, {{name}}", "only vars of the campaign's"


@with_ingress(changed=MANAGED)
async def test_without_content_for_a_step_a_text_is_asked_for(world: World) -> None:
    await declare(world, content={"viber": {"text": "for Viber"}})
    assert [pointer for pointer, _ in faults(await world.send(BARE))] == ["/text"]
    assert (await world.send(BARE | {"sms": {"text": "for SMS"}})).status == 202
    await declare(world, content=None)
    other = BARE | {"to": "+79161234568"}
    assert [pointer for pointer, _ in faults(await world.send(other))] == ["/text"]
    assert (await world.send(other | {"text": "{{x}}", "vars": {"y": "1"}})).status == 202


@with_ingress(changed=MANAGED)
async def test_each_person_gets_one_variant_and_it_is_booked_apart(world: World) -> None:
    variants = [
        {"name": "short", "percent": 50, "content": {"text": "{{name}}!"}},
        {"name": "long", "percent": 50, "content": {"text": "Dear {{name}}, how are you?"}},
    ]
    shown = await declare(world, variants=variants)
    assert (shown["content"], shown["variants"]) == (None, variants)
    sends = [BARE | {"to": f"+791612345{n:02}", "vars": {"name": "A"}} for n in range(40)]
    answers = (await world.call("POST", "/v1/messages", sends)).json
    drawn = [(await message(world, answer["id"])).variant for answer in answers]
    assert {*drawn} == {"short", "long"}
    for answer, variant in zip(answers[:6], drawn, strict=False):
        said = {"short": "A!", "long": "Dear A, how are you?"}[variant]
        assert await text_of(world, answer["id"]) == said
    again = (await world.call("POST", "/v1/messages", sends)).json
    assert {answer["outcome"] for answer in again} == {"duplicate"}
    report = await world.call("GET", "/v1/reports/cost?group_by=variant", key="finance-key")
    rows = {row["variant"]: (row["accepted"], row["duplicates"]) for row in report.json["rows"]}
    assert rows == {name: (drawn.count(name), drawn.count(name)) for name in ("short", "long")}
    only = await world.call("GET", "/v1/reports/cost?variant=short", key="finance-key")
    assert only.json["total"]["accepted"] == drawn.count("short")
    # A name that any variant asks for is asked of everybody.
    await declare(world, variants=[variants[0], {**variants[1], "content": {"text": "{{x}}"}}])
    told = [faults(await world.send({**send, "campaign": "autumn"})) for send in sends[:8]]
    assert {pointer for found in told for pointer, _ in found} == {"/vars/x"}


@with_ingress(changed=MANAGED)
async def test_explain_says_which_variant_was_drawn(world: World) -> None:
    every = [{"name": "all", "percent": 100, "content": {"text": "Hi"}}]
    await declare(world, variants=every)
    dry = (await world.call("POST", "/v1/messages?dry_run=true", BARE)).json
    answer = (await world.send(BARE)).json
    told = (await world.call("GET", f"/v1/messages/{answer['id']}/explain")).json
    for gates in (dry["explain"]["gates"], told["gates"]):
        (gate,) = [gate for gate in gates if gate["gate"] == "campaign"]
        assert gate["detail"] == "running, variant all"


@pytest.mark.parametrize(
    ("said", "pointers"),
    [
        ({"content": {"text": ""}}, ["/content/text"]),
        ({"content": {"text": " "}}, ["/content/text"]),
        ({"content": {"text": "a\x07"}}, ["/content/text"]),
        ({"content": {"fax": {}}}, ["/content/fax"]),
        ({"content": {"viber": {"image_url": "{{url}}"}}}, ["/content/viber/image_url"]),
        (
            {"content": {"viber": {"button": {"caption": "Go", "url": "https://x.example/"}}}},
            ["/content/viber/button"],
        ),
        ({"variants": [{"name": "a", "percent": 0, "content": {}}]}, ["/variants/0/percent"]),
        ({"variants": [{"name": "a", "percent": 0.001, "content": {}}]}, ["/variants/0/percent"]),
        (
            {"variants": [{"name": "a", "percent": p, "content": {}} for p in (10, 20)]},
            ["/variants/1/name"],
        ),
        (
            {"variants": [{"name": n, "percent": 60, "content": {}} for n in ("a", "b")]},
            ["/variants"],
        ),
        (
            {
                "content": {"text": "a"},
                "variants": [{"name": "a", "percent": 1, "content": {"text": "\t"}}],
            },
            ["/variants/0/content/text"],
        ),
        (
            {"variants": [{"name": f"{n}", "percent": 1, "content": {}} for n in range(17)]},
            ["/variants"],
        ),
    ],
)
def test_what_no_message_could_say_cannot_be_declared(
    said: dict[str, Any], pointers: list[str], redis_url: str
) -> None:
    @with_ingress(changed=MANAGED)
    async def ask(world: World) -> None:
        answer = await world.call("PUT", PATH, said, key="finance-key")
        assert [pointer for pointer, _ in faults(answer)] == pointers
        assert (await world.call("GET", PATH, key="finance-key")).status == 404

    ask(redis_url)


@with_ingress(changed=MANAGED)
async def test_content_and_variants_stay_and_are_reset_apart(world: World) -> None:
    variants = [{"name": "b", "percent": 10, "content": {"text": "b"}}]
    await declare(world, content=HELLO, variants=variants)
    kept = await declare(world, pace="60/m")
    assert (kept["content"], kept["variants"]) == (HELLO, variants)
    kept = await declare(world, content=None)
    assert (kept["content"], kept["variants"]) == (None, variants)
    kept = await declare(world, variants=None)
    assert (kept["content"], kept["variants"]) == (None, None)
    assert await world.redis.call([("EXISTS", shared_keys.CAMPAIGN_WORDS)]) == [0]


@with_ingress(changed=MANAGED)
async def test_senders_of_a_content_are_those_of_the_app_that_sends(world: World) -> None:
    await declare(world, content={"text": "Hi", "sms": {"sender": "Bank"}})
    assert (await world.send(BARE)).status == 202


@with_ingress(changed=MANAGED)
async def test_a_worker_that_knows_of_a_change_too_late_looks_again(world: World) -> None:
    await declare(world, content=HELLO)
    known = world.store.policy.declared
    await declare(world, content={"text": "Bye {{name}}"})
    store = world.store
    store.declarations, store.contents = Declarations(), Contents()
    store.declarations.declared = known
    store.policy = store.policy  # with what is declared, as it is known
    answer = await world.send(BARE | {"vars": {"name": "Ivan"}})
    assert answer.status == 202, answer.json
    assert await text_of(world, answer.json["id"]) == "Bye Ivan"


@with_ingress(changed=MANAGED)
async def test_without_redis_what_a_campaign_says_cannot_be_read(world: World) -> None:
    await declare(world, content=HELLO)
    world.store.contents = Contents()
    world.redis.away = True
    answer = await world.send(BARE | {"vars": ANNA})
    assert (answer.status, answer.json["type"]) == (503, "/docs#unavailable")
    world.redis.away = False
    stream, line = world.stream(), json.dumps(BARE | {"vars": ANNA}).encode() + b"\n"
    stream.feed(line)
    assert (await stream.line())["outcome"] == "accepted"
    world.store.contents = Contents()
    world.redis.away = True
    stream.feed(line + line, more=False)
    failed = await stream.line()
    assert (failed["outcome"], failed["error"]["status"]) == ("error", 503)
    assert (await stream.answer()).body == b"", "nothing is read behind it"


@with_ingress(changed=MANAGED)
async def test_what_a_newer_kaskad_lets_a_campaign_say_is_left_to_it(world: World) -> None:
    await declare(world, content=HELLO)
    newer = b'{"content":{"text":"Hi","smoke":{"puffs":3}}}'

    def decide(before: Campaign | None, _: bytes) -> tuple[Campaign, bytes]:
        assert before is not None
        return replace(before, ttl_ms=60_000), newer

    deed = Deed(0, "a test", "campaign.put", "autumn")
    await declarations.change(world.store.redis, 1, "autumn", decide, lambda _: deed)
    await world.store.look_at_campaigns(world.clock.now_ms)
    assert world.store.policy.declared.campaigns["autumn"].words == hash_of(newer)
    answer = await world.send(BARE)
    assert answer.status == 503
    assert "newer Kaskad" in answer.json["detail"]
    refused = await world.call("PUT", PATH, {"content": HELLO}, key="finance-key")
    assert refused.status == 503
    paused = await declare(world, state="paused")
    assert paused["content"] is None, "it is not for this one to show"
    assert await world.redis.call([("HGET", shared_keys.CAMPAIGN_WORDS, "autumn")]) == [newer]


@with_ingress(changed=MANAGED)
async def test_the_page_shows_what_can_be_done(world: World) -> None:
    section = API_PAGE.read_text().partition("### What a campaign says")[2].partition("\n## ")[0]
    declared, sent = (
        json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    )
    shown = await declare(world, **declared)
    assert (shown["content"], shown["variants"]) == (declared["content"], declared["variants"])
    answer = await world.send(sent | {"campaign": "autumn"})
    assert (answer.status, answer.json["outcome"]) == (202, "accepted")
    assert "sale?c=A%2017" in await text_of(world, answer.json["id"])


@with_ingress(changed=MANAGED)
async def test_a_server_that_began_without_redis_refuses_nothing_for_want_of_a_declaration(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await declare(world, category="marketing", content=HELLO)
    wanted = {"to": SALE["to"], "campaign": SALE["campaign"], "vars": ANNA}
    store = world.store
    store.declarations = Declarations()
    store.policy = store.policy

    async def fails(_now_ms: int) -> None:
        raise RedisUnavailable("Redis is away.")

    with monkeypatch.context() as patch:
        patch.setattr(store, "look_at_campaigns", fails)
        assert (await world.send(wanted)).status == 503
    answer = await world.send(wanted)
    assert answer.status == 202, answer.json


async def declared_by_another(world: World, **said: Any) -> None:
    """Without that this process hears of it."""
    words = json.dumps({"content": HELLO}).encode()
    deed = Deed(0, "a test", "campaign.put", "autumn")

    def decide(_: Campaign | None, __: bytes) -> tuple[Campaign, bytes]:
        return Campaign(**said), words

    await declarations.change(world.store.redis, 1, "autumn", decide, lambda _: deed)


@pytest.mark.parametrize("way", ["single", "array", "stream", "dry run"])
@with_ingress(changed=MANAGED)
async def test_what_another_process_declared_just_now_is_known_before_a_message_is_refused(
    world: World, way: str
) -> None:
    """422 would be for good, and whoever declared it was told that it is."""
    world.clock.now_ms = cascade_world.T0
    await world.store.look_at_campaigns(world.clock.now_ms)
    await declared_by_another(world, category="marketing")
    wanted = {"to": SALE["to"], "campaign": SALE["campaign"], "vars": ANNA}
    if way == "single":
        outcome = (await world.send(wanted)).json["outcome"]
    elif way == "array":
        outcome = (await world.send([wanted])).json[0]["outcome"]
    elif way == "stream":
        stream = world.stream()
        stream.feed(json.dumps(wanted).encode() + b"\n", more=False)
        outcome = (await stream.line())["outcome"]
    else:
        answer = await world.call("POST", "/v1/messages?dry_run=true", wanted)
        outcome = answer.json["outcome"]
    assert outcome == "accepted"
    assert faults(await world.send(wanted | {"vars": {}}))[0][0] == "/vars/name"


@with_ingress(changed=MANAGED)
async def test_what_another_process_declared_just_now_holds_for_what_could_do_without(
    world: World,
) -> None:
    """Of a campaign that was none, each process asks before the first message of it."""
    world.clock.now_ms = cascade_world.T0
    await world.store.look_at_campaigns(world.clock.now_ms)
    await declared_by_another(world, state="cancelled")
    assert (await world.send(SALE)).json["reason"] == "campaign_cancelled"


@with_ingress(changed=MANAGED)
async def test_a_campaign_that_is_none_is_asked_for_once_between_two_looks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.clock.now_ms = cascade_world.T0
    await world.store.look_at_campaigns(world.clock.now_ms)
    looked: list[int] = []
    look = world.store.look_at_campaigns

    async def counted(now_ms: int) -> None:
        looked.append(now_ms)
        await look(now_ms)

    monkeypatch.setattr(world.store, "look_at_campaigns", counted)
    for n in range(3):
        assert (await world.send(SALE | {"to": f"+7916123456{n}"})).status == 202
    assert len(looked) == 1
    for n in range(2 * ASKED_MAX):
        await world.send(SALE | {"to": f"+791612346{n:02}", "campaign": f"c{n}"})
    assert len(looked) == ASKED_MAX
    world.clock.now_ms += 500
    await look(world.clock.now_ms)
    await world.send(SALE | {"to": "+79161234599"})
    assert len(looked) == ASKED_MAX + 1
