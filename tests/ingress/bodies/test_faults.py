"""How the faults of a request are told: all at once, each at its member, in JSON's words, and of
very many the first and their number."""

from __future__ import annotations

import json
import tracemalloc
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.ingress.api.bodies import repeated_keys
from gateway.ingress.api.bodies.decoder import read_keys
from gateway.ingress.api.messages.requests import Faulty, Malformed, ValidRequest, read
from gateway.ingress.api.people.user_bodies import UserLine
from gateway.ingress.http.problems import FAULTS_MAX
from providers.contract import Device
from tests.ingress.messages.test_requests import GOOD, POLICY
from tests.worlds.ingress_world import OTP, World, with_ingress

ONCE = "This key is given more than once: give it once."


def faults(raw: bytes) -> dict[str, str]:
    found = read(raw, POLICY, "shop")
    assert isinstance(found, Faulty), found
    return {fault.pointer: fault.detail for fault in found.faults}


def body(changes: dict[str, Any]) -> bytes:
    return json.dumps(GOOD | changes).encode()


def text_of(inner: str) -> bytes:
    """A good message with something more in it, as it stands."""
    return json.dumps(GOOD)[:-1].encode() + b"," + inner.encode() + b"}"


def test_what_a_kind_of_object_is_like_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """msgspec evaluates the annotations anew each time: nine tenths of what a stored user took."""
    line = b'{"user": "u1", "phone": "+79161234567", "email": "anna@shop.example"}'
    read_keys(UserLine, line, "{}")

    def again(kind: type) -> None:
        raise AssertionError(kind)

    monkeypatch.setattr(msgspec.structs, "fields", again)
    assert set(read_keys(UserLine, line, "{}").values) == {"user", "phone", "email"}


@pytest.mark.parametrize(
    ("inner", "pointers"),
    [
        ('"to":"+79161234567"', {"/to"}),
        ('"to":"+79161234568"', {"/to"}),
        (r'"\u0074o" : "+79161234567"', {"/to"}),
        ('"user":null,"user":null', {"/user"}),
        ('"text":"at 10:00"', {"/text"}),
        (r'"text":"\u003a"', {"/text"}),
        ('"metadata":{"a":"1","a":"2"}', {"/metadata/a"}),
        (r'"metadata":{"a":"\u003a","a":"2"}', {"/metadata/a"}),
        (r'"metadata":{"a/b":"1","a\/b":"2"}', {"/metadata/a~1b"}),
        ('"viber":{"button":{"caption":"x","url":"http://a.example","caption":"y"}}', {
            "/viber/button/caption"
        }),
        ('"sms":{"sender":"a"},"user":"a","user":"a"', {"/user"}),
        ('"viber":{},"user":"a","user":"a","user":"a","user":"a"', {"/user"}),
        ('"viber":{"button":null},"user":"a:null","user":"a:null"', {"/user"}),
        ('"sms":{"text":"a"},"sms":{"text":"a"},"sms":{"text":"a"}', {"/sms"}),
        ('"more":[{"a":1},{"b":{"c":1,"c":2}}]', {"/more", "/more/1/b/c"}),
    ],
)  # fmt: skip
def test_a_key_given_twice_is_a_fault_at_its_place(inner: str, pointers: set[str]) -> None:
    told = faults(text_of(inner))
    assert set(told) == pointers
    assert ONCE in told.values()


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "At 10:00: https://shop.example/"},
        {"text": '"to":"x"', "metadata": {"a:b": ":", ":": "\\u003a"}},
        {"user": None, "campaign": None, "viber": {"text": None, "image_url": None}},
        {"viber": {"button": {"caption": "to:", "url": "https://shop.example/a:b"}}},
        {"to": {"phone": "+79161234567", "email": "a@b.example", "push": None}},
    ],
)
def test_colons_are_no_keys(changes: dict[str, Any]) -> None:
    for raw in (body(changes), body(changes).replace(b": ", b":"), text_of(r'"user":"\u003A"')):
        assert isinstance(read(raw, POLICY, "shop"), ValidRequest)


def escaped(text: str) -> str:
    return '"' + "".join(f"\\u{ord(each):04x}" for each in text) + '"'


SPELLED = st.tuples(st.sampled_from(["a", "b", ":", 'a":'])) .flatmap(
    lambda key: st.sampled_from([json.dumps(key[0]), escaped(key[0])])
)  # fmt: skip
TEXTS: st.SearchStrategy[str] = st.recursive(
    st.sampled_from(["1", "null", '":"', r'"\u003a"', '"a\\":"']),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(SPELLED, inner), max_size=4).map(
            lambda pairs: "{" + ",".join(f"{key} :{value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=12,
)


@given(TEXTS)
@example('{"a":{"b":":","b":1},"a":1}')
def test_whatever_is_given_twice_is_found(text: str) -> None:
    twice: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice.extend({key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1})
        return dict(pairs)

    json.loads(text, object_pairs_hook=look)
    found, total = repeated_keys.paths(text.encode(), json.loads(text))
    assert bool(found) == bool(total) == bool(twice)


@pytest.mark.parametrize("most", [1, 2, 20])
def test_the_first_places_of_keys_given_twice_are_told_and_their_number(most: int) -> None:
    text = b'{"a":[{"b":1,"b":{"c":[],"c":[[{"d":1,"d":2}]]}},3,{"e":1,"e":2}],"f":{},"f":{}}'
    found, total = repeated_keys.paths(text, json.loads(text), most)
    every = [("f",), ("a", 0, "b"), ("a", 0, "b", "c"), ("a", 0, "b", "c", 0, 0, "d")]
    assert found == [*every, ("a", 2, "e")][:most]
    assert total == 5


def test_keys_given_twice_take_no_more_memory_the_deeper_they_stand() -> None:
    """It was 8 bytes for each key and each level above it: 40 MB here."""
    keys = b",".join(b'"%x":1' % number for number in range(10_000))
    text = b'{"a":1,"a":' * 500 + b"{%b}" % keys + b"}" * 500
    decoded = json.loads(text)
    tracemalloc.start()
    try:
        _, total = repeated_keys.paths(text, decoded)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 500
    assert peak < 10_000_000


MEMBERS = st.sampled_from(
    [
        ("user", '"a:null"'),
        ("user", "null"),
        ("viber", "{}"),
        ("viber", '{"text":"V","image_url":null}'),
        ("viber", '{"button":{"caption":":","url":"http://a.example"}}'),
        ("sms", '{"sender":"null"}'),
        ("metadata", '{"a":":null","b:":""}'),
        ("metadata", r'{"a":"\u003anull"}'),
        ("ttl", "5"),
        ("ttl", "null"),
    ]
)


@given(st.lists(MEMBERS, max_size=5))
def test_a_good_message_is_refused_only_for_a_key_given_twice(
    members: list[tuple[str, str]],
) -> None:
    raw = body({})[:-1] + b"".join(b',"%b":%b' % (k.encode(), v.encode()) for k, v in members)
    names = [name for name, _ in members]
    twice = {f"/{name}" for name in names if names.count(name) > 1}
    found = read(raw + b"}", POLICY, "shop")
    if twice:
        assert isinstance(found, Faulty)
        assert {fault.pointer for fault in found.faults} == twice
    else:
        assert isinstance(found, ValidRequest)


@with_ingress()
async def test_keys_given_twice_are_refused_in_every_form_of_a_request(world: World) -> None:
    twice = json.dumps(OTP)[:-1].encode() + b',"text":"Other"}'
    alone = await world.call("POST", "/v1/messages", twice, {"content-type": "application/json"})
    assert (alone.status, alone.json["errors"]) == (422, [{"pointer": "/text", "detail": ONCE}])
    array = await world.call(
        "POST", "/v1/messages", b"[%b,%b]" % (twice, json.dumps(OTP).encode()),
        {"content-type": "application/json"},
    )  # fmt: skip
    assert [item["outcome"] for item in array.json] == ["rejected", "accepted"]
    stream = world.stream()
    stream.feed(twice + b"\n" + json.dumps(OTP).encode(), more=False)
    lines = (await stream.answer()).lines
    assert [line["outcome"] for line in lines] == ["rejected", "accepted"]
    assert lines[0]["error"]["errors"][0]["pointer"] == "/text"
    opted_out = await world.call(
        "PUT", "/v1/optouts/+79161234567", b'{"scope":"all","scope":"marketing"}',
        {"content-type": "application/json"},
    )  # fmt: skip
    assert (opted_out.status, opted_out.json["errors"][0]["pointer"]) == (422, "/scope")


@with_ingress()
async def test_of_many_faults_twenty_are_told_and_their_number(world: World) -> None:
    answer = await world.send({f"k{number}": 0 for number in range(100_000)})
    told = answer.json
    assert answer.status == 422
    assert len(told["errors"]) == FAULTS_MAX
    assert [each["pointer"] for each in told["errors"][:2]] == ["/k0", "/k1"]
    assert told["errors_total"] == 100_002  # `to` and `category` are missing too
    assert "100002 faults" in told["detail"]
    assert len(answer.body) < 10_000
    few = (await world.send({})).json
    assert "errors_total" not in few


@pytest.mark.parametrize("twice", [True, False])
def test_very_many_members_at_fault_are_told_as_one_or_as_the_first(twice: bool) -> None:
    key = '"a":1,' if twice else ""
    inner = ",".join(f'{key}"k{number}":1' for number in range(5_000))
    found = read(text_of(f'"metadata":{{{inner}}}'), POLICY, "shop")
    assert isinstance(found, Faulty)
    assert len(found.faults) <= FAULTS_MAX
    assert {fault.pointer for fault in found.faults} == (
        {"/metadata", "/metadata/a"} if twice else {"/metadata"}
    )


def test_a_bad_button_and_a_bad_picture_are_told_together() -> None:
    viber = {"image_url": "ftp://a.example", "button": {"caption": "x" * 31, "url": "nowhere"}}
    told = faults(body({"viber": viber, "to": {"phone": "+7", "email": 5}}))
    assert set(told) == {
        "/viber/image_url",
        "/viber/button/caption",
        "/viber/button/url",
        "/to/phone",
        "/to/email",
    }


def test_what_was_not_read_is_no_second_fault() -> None:
    viber = {"text": "", "button": {"caption": "Go", "url": "https://shop.example"}}
    told = faults(json.dumps({"to": {"phone": 5}, "category": "otp", "viber": viber}).encode())
    assert set(told) == {"/to/phone", "/viber/text"}


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"ttl": "60"}, "/ttl", "Expected `integer or null`, got `string`."),
        ({"text": 5}, "/text", "Expected `string or null`, got `integer`."),
        ({"metadata": {"order": 1.5}}, "/metadata/order", "Expected `string`, got `number`."),
        ({"viber": {"text": True}}, "/viber/text", "Expected `string or null`, got `boolean`."),
        ({"to": {"push": [{"kind": "fcm"}]}}, "/to/push/0/token", "Required."),
        ({"to": {"push": [{"kind": "fcm", "token": 1}]}}, "/to/push/0/token", "got `integer`"),
    ],
)
def test_types_are_called_as_json_calls_them(
    changes: dict[str, Any], pointer: str, words: str
) -> None:
    told = faults(body(changes))
    assert words in told[pointer]


class Words(msgspec.Struct):
    scope: Literal["marketing", "all"]
    device: Device
    ruled: Annotated[Literal["a", "b"], msgspec.Meta(description="a or b.")]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"scope": "x", "device": {"kind": "x"}, "ruled": "x"},
            {
                "/scope": "Invalid enum value 'x'. One of: marketing, all.",
                "/device/kind": "Invalid value 'x'. One of: fcm, webpush.",
                "/ruled": "Invalid enum value 'x'. a or b.",
            },
        ),
        (
            {},
            {
                "/scope": "Required: One of: marketing, all.",
                "/device": "Required: One of: fcm, webpush.",
                "/ruled": "Required: a or b.",
            },
        ),
        (
            {"scope": "all", "device": {"kind": "fcm", "key": 1}, "ruled": "a"},
            {
                "/device/key": "Unknown key; there are: token.",
                "/device/token": "Required.",
            },
        ),
    ],
    ids=["no such word", "nothing", "a key of another"],
)
def test_a_fault_of_a_word_names_those_there_are(
    given: dict[str, Any], told: dict[str, str]
) -> None:
    found = read_keys(Words, json.dumps(given).encode(), "{}")
    assert {fault.pointer: fault.detail for fault in found.faults} == told


@pytest.mark.parametrize("ttl", [b"300.0", b"3e2", b"300"])
def test_a_number_that_is_whole_is_an_integer(ttl: bytes) -> None:
    found = read(text_of(f'"ttl":{ttl.decode()}'), POLICY, "shop")
    assert isinstance(found, ValidRequest)
    assert (found.request.ttl, type(found.request.ttl)) == (300, int)


@pytest.mark.parametrize("ttl", ["0.5", "1e308", "-1.0", "true"])
def test_any_other_number_is_a_fault(ttl: str) -> None:
    assert set(faults(text_of(f'"ttl":{ttl}'))) == {"/ttl"}


def test_what_nests_too_deeply_is_no_json() -> None:
    assert isinstance(read(b'{"a":' * 50_000, POLICY, "shop"), Malformed)
