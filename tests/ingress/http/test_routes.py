"""The route table: what is found by it, and that each row's scope is asked for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gateway.ingress.http.problems import Refusal
from gateway.ingress.http.route import HttpRoute, Router
from gateway.ingress.http.routes import ROUTES
from tests.worlds.ingress_world import World, with_ingress

SCOPED = [route for route in ROUTES if route.scope is not None]


def address(path: str) -> str:
    """An address of that path."""
    return path.replace("{id}", "0" * 20).replace("{phone}", "+79161234567")


def test_a_name_and_an_address_stand_in_one_row() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_row_is_found_by_its_address(route: HttpRoute[Any]) -> None:
    path = re.sub(r"[{}]", "", route.path)
    found, parameters = Router(ROUTES).find(route.method, path)
    assert found is route
    names = re.findall(r"{(\w+)}", route.path)
    assert parameters == {name: name for name in names}


def test_head_is_a_get_but_of_what_has_no_end() -> None:
    router = Router(ROUTES)
    assert router.find("HEAD", "/healthz")[0].name == "health"
    with pytest.raises(Refusal) as caught:
        router.find("HEAD", "/v1/events")
    assert (b"allow", b"GET") in caught.value.headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/messages", b"POST, GET, HEAD"),
        ("POST", "/v1/messages/1", b"GET, HEAD, DELETE"),
        ("PUT", "/v1/callbacks/viber", b"POST, GET, HEAD"),
        ("PATCH", "/v1/optouts/1", b"GET, HEAD, PUT, DELETE"),
    ],
)
def test_another_method_is_told_which_there_are(method: str, path: str, allowed: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        Router(ROUTES).find(method, path)
    assert caught.value.problem.status == 405
    assert (b"allow", allowed) in caught.value.headers


def test_an_encoded_slash_is_part_of_its_parameter() -> None:
    _, parameters = Router(ROUTES).find("GET", "/v1/users/a%2Fb%20c")
    assert parameters == {"user": "a/b c"}


@pytest.mark.parametrize("path", ["", "/v1/messages/", "/v1/messages/1/2", "/v1/callbacks/"])
def test_another_address_is_not_found(path: str) -> None:
    with pytest.raises(Refusal) as caught:
        Router(ROUTES).find("GET", path)
    assert caught.value.problem.status == 404


@with_ingress()
async def test_every_row_with_a_scope_asks_for_it_before_its_handler_runs(world: World) -> None:
    async def never(_request: object) -> None:
        raise AssertionError("the handler ran")

    for route in SCOPED:
        world.app._handlers[route.name] = never
        path = address(route.path)
        assert (await world.call(route.method, path, key="")).status == 401
        assert (await world.call(route.method, path, key="wrong")).status == 401
        if route.scope != "read" and not route.login:
            refused = await world.call(route.method, path, key="reader-key")
            assert refused.status == 403
            assert f"`{route.scope}`" in refused.json["detail"]
    text = (await world.call("GET", "/metrics")).body.decode()
    for route in SCOPED:
        assert f'endpoint="{route.name}",process="ingress-test-1",status="401"' in text


@with_ingress()
@pytest.mark.parametrize(
    ("path", "there_are"),
    [
        ("/v1/messages/1?verbose=1", "'verbose'; there are none."),
        ("/v1/events?last-event-id=1", "'last-event-id'; there are none."),
        ("/v1/reports/cost?form=csv&campain=a", "'form'; there are: from, to, group_by, format,"),
        ("/v1/reports/cost?%66orm%20", "'form '; there are: from,"),
        ("/v1/optouts/+79161234567?", ""),
        ("/v1/reports/cost?from=2026-11-01&", ""),
        ("/healthz?probe=7", ""),
    ],
)
async def test_a_query_parameter_that_is_unknown_is_told_which_there_are(
    world: World, path: str, there_are: str
) -> None:
    answer = await world.call("GET", path)
    if there_are:
        assert (answer.status, answer.json["type"]) == (400, "/docs#query")
        assert f"Unknown query parameter {there_are}" in answer.json["detail"]
    else:
        assert answer.status in (200, 404)


@with_ingress()
async def test_a_provider_may_add_to_the_query_of_its_callback(world: World) -> None:
    path = "/v1/callbacks/viber?token=tok&region=eu"
    assert (await world.call("POST", path, {"results": []}, key="")).status == 200
