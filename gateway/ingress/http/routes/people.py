"""People: their opt-outs, and what is kept of them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.core import channels
from gateway.core.addresses import Recipient
from gateway.ingress.api.people.inbound import RepliesPage
from gateway.ingress.api.people.optouts import OptOutRequest, OptOutView
from gateway.ingress.api.people.stored_users import StoredUserView, UserResult
from gateway.ingress.api.people.user_bodies import UserBody, UserLine
from gateway.ingress.api.people.users import ErasedView, UserView
from gateway.ingress.api.reactions.conversions import (
    CONVERSIONS_MAX,
    ConversionRequest,
    ConversionResult,
)
from gateway.ingress.api.reactions.conversions import EXAMPLE as CONVERSION_EXAMPLE
from gateway.ingress.api.reactions.reactions import EXAMPLE as REACTION_EXAMPLE
from gateway.ingress.api.reactions.reactions import REACTIONS_MAX, ReactionRequest, ReactionResult
from gateway.ingress.http.documented import PAGE, json_payload, text_payload
from gateway.ingress.http.link_paths import BEFORE, BESIDE_CODE
from gateway.ingress.http.route import HttpRoute, Parameter, Payload
from gateway.ingress.http.routes.endpoints import Endpoints

_REACTIONS = Annotated[list[ReactionRequest], Meta(min_length=1, max_length=REACTIONS_MAX)]
_CONVERSIONS = Annotated[list[ConversionRequest], Meta(min_length=1, max_length=CONVERSIONS_MAX)]
_CHANNEL_NAME = next(iter(channels.CHANNELS))
_SET = {"by": "shop", "at": "2026-11-21T10:00:00.000Z", "reason": "asked by phone"}
_OPT_OUT = {
    200: json_payload(
        "The opt-out.",
        OptOutView,
        {
            "phone": "+79161234567",
            "scope": "marketing",
            **_SET,
            "channels": {_CHANNEL_NAME: {"scope": "all", **_SET}},
        },
    )
}
_CHANNEL = Parameter(
    "channel", "query", "The opt-out of this channel alone.", {"enum": list(channels.CHANNELS)}
)
_ADDRESS = Parameter("address", "path", "A phone number in E.164, or an e-mail address.")
_KEPT = {"phone": "+79161234567", "tz": "Europe/Moscow", "locale": "ru-RU", "consent": []}
_NOT_KEPT = dict.fromkeys(name for name in Recipient.__struct_fields__ if name not in _KEPT)
_STORED_USER = {
    200: json_payload(
        "What is kept of the user.", StoredUserView, {"user": "u-1001", **_KEPT, **_NOT_KEPT}
    )
}
_USER = Parameter("user", "path", "The person's id at the caller.")

PEOPLE: tuple[HttpRoute[Endpoints], ...] = (
    HttpRoute(
        method="POST",
        path="/v1/reactions",
        name="takeReactions",
        handler=lambda endpoints: endpoints.reactions.take,
        scope="send",
        tag="People",
        summary="What people did with messages",
        text="One reaction or an array, answered once durable. Each counts once a message, kind "
        "and step; the first one ends the cascade. It is of the latest step that arrived, on the "
        "named channel where there is one; of a step that is out it proves that it arrived.",
        body=Payload(
            media={"application/json": (ReactionRequest, _REACTIONS)},
            examples={"application/json": REACTION_EXAMPLE},
        ),
        answers={
            200: json_payload(
                "What it came to; of an array each, in order, with `index`.",
                (ReactionResult, list[ReactionResult]),
            )
        },
        problems=[404, 422],
    ),
    HttpRoute(
        method="POST",
        path="/v1/conversions",
        name="takeConversions",
        handler=lambda endpoints: endpoints.conversions.take,
        scope="send",
        tag="People",
        summary="What people did in the end, such as orders",
        text="One conversion or an array, answered once durable; each counts once under its `id`. "
        "It is put down to the last human click within `[conversions] click_window`, else to the "
        "last delivery within `delivery_window`; other channels of that person and campaign within "
        "these windows assisted. A negative `value` corrects: it goes where the latest conversion "
        "went, and counts as none. What of the campaign has not left is skipped, `converted`.",
        body=Payload(
            media={"application/json": (ConversionRequest, _CONVERSIONS)},
            examples={"application/json": CONVERSION_EXAMPLE},
        ),
        answers={
            200: json_payload(
                "What it came to; of an array each, in order, with `index`.",
                (ConversionResult, list[ConversionResult]),
            )
        },
        problems=[404, 422],
    ),
    HttpRoute(
        method="GET",
        path="/u/{code}",
        name="unsubscribePage",
        handler=lambda endpoints: endpoints.unsubscribing.show,
        elsewhere=rf"{BEFORE}u/(?P<code>{BESIDE_CODE})",
    ),
    HttpRoute(
        method="POST",
        path="/u/{code}",
        name="unsubscribe",
        handler=lambda endpoints: endpoints.unsubscribing.change,
    ),
    HttpRoute(
        method="GET",
        path="/v1/optouts/{address}",
        name="getOptOut",
        handler=lambda endpoints: endpoints.optouts.get,
        scope="send",
        tag="Opt-outs",
        summary="Whether somebody opted out",
        parameters=[_ADDRESS, _CHANNEL],
        answers=_OPT_OUT,
        problems=[404, 422],
    ),
    HttpRoute(
        method="PUT",
        path="/v1/optouts/{address}",
        name="putOptOut",
        handler=lambda endpoints: endpoints.optouts.put,
        scope="send",
        tag="Opt-outs",
        summary="Somebody opts out",
        text="Of every channel, or of one: then a step on it is skipped, and the next one goes on.",
        parameters=[_ADDRESS],
        body=json_payload("", OptOutRequest, {"scope": "marketing", "reason": "asked by phone"}),
        answers=_OPT_OUT,
        problems=[422],
    ),
    HttpRoute(
        method="DELETE",
        path="/v1/optouts/{address}",
        name="deleteOptOut",
        handler=lambda endpoints: endpoints.optouts.delete,
        scope="send",
        tag="Opt-outs",
        summary="Somebody may be sent messages again; without `channel` on every one",
        parameters=[_ADDRESS, _CHANNEL],
        answers={204: Payload(text="There is no opt-out now.")},
        problems=[422],
    ),
    HttpRoute(
        method="GET",
        path="/v1/users/{user}",
        name="getUser",
        handler=lambda endpoints: endpoints.users.get,
        scope="read",
        tag="People",
        summary="What is kept of a person",
        parameters=[_USER],
        answers={200: json_payload("The person.", UserView)},
        problems=[404],
    ),
    HttpRoute(
        method="PUT",
        path="/v1/users/{user}",
        name="putUser",
        handler=lambda endpoints: endpoints.stored_users.put,
        scope="send",
        tag="People",
        summary="Keep a person's addresses",
        text="A message may then name only `user`. A phone or an e-mail address that was another "
        "user's is this one's from now on.",
        parameters=[_USER],
        body=json_payload("", UserBody, _KEPT),
        answers=_STORED_USER,
        problems=[422],
    ),
    HttpRoute(
        method="PATCH",
        path="/v1/users/{user}",
        name="patchUser",
        handler=lambda endpoints: endpoints.stored_users.patch,
        scope="send",
        tag="People",
        summary="Change some of what is kept of a person",
        text="Keys that are left out stay; `null` takes one away.",
        parameters=[_USER],
        body=json_payload("", UserBody, _KEPT),
        answers=_STORED_USER,
        problems=[422],
    ),
    HttpRoute(
        method="POST",
        path="/v1/users",
        name="importUsers",
        handler=lambda endpoints: endpoints.stored_users.import_,
        scope="send",
        quiet=True,
        tag="People",
        summary="Keep many persons' addresses, one a line",
        text="Each line is what `PUT` takes, with `user`. The answer has a line for each, in "
        "order, as that of a stream of messages.",
        body=text_payload(
            "", "application/x-ndjson", '{"user": "u-1001", "phone": "+79161234567"}\n'
        ),
        answers={
            200: Payload(
                text="The results, line by line, with `line`.",
                media={"application/x-ndjson": {"type": "string"}},
                examples={
                    "application/x-ndjson": '{"user": "u-1001", "outcome": "stored", "line": 1}\n'
                },
                shown=[UserLine, UserResult],
            )
        },
    ),
    HttpRoute(
        method="DELETE",
        path="/v1/users/{user}",
        name="deleteUser",
        handler=lambda endpoints: endpoints.users.delete,
        scope="send",
        tag="People",
        summary="A person is forgotten",
        text="For the app, with `manage` for every app. Opt-outs and the ledger's money stay.",
        parameters=[_USER],
        answers={200: json_payload("How much there was.", ErasedView)},
        problems=[404],
    ),
    HttpRoute(
        method="GET",
        path="/v1/inbound",
        name="listReplies",
        handler=lambda endpoints: endpoints.inbound.get,
        scope="read",
        tag="People",
        summary="What people wrote back in the last 7 days",
        text="To the app's messages: a reply answers the newest message to its person by the "
        "provider it came through. Those that answer none are shown with the scope `manage`.",
        parameters=PAGE,
        answers={200: json_payload("A page.", RepliesPage)},
        problems=[400],
    ),
)
