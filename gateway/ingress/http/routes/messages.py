"""Messages: sent, read, cancelled, and followed."""

from __future__ import annotations

from gateway.core import channels
from gateway.core.views.message import MessageView, TimelineView
from gateway.core.views.reply import ReplyView
from gateway.core.views.words import Status
from gateway.ingress.api.events.events import EventData
from gateway.ingress.api.messages.explain_view import DryResult, ExplainView
from gateway.ingress.api.messages.request_body import KEY_MAX
from gateway.ingress.api.messages.search import ADDRESSES, WHO, MessagesPage, SearchRequest
from gateway.ingress.api.results import Result
from gateway.ingress.http.documented import PAGE, json_payload, one_or_many
from gateway.ingress.http.fields import MESSAGE_ID
from gateway.ingress.http.route import HttpRoute, Parameter, Payload
from gateway.ingress.http.routes.endpoints import Endpoints

EXAMPLE = {
    "to": "+79161234567",
    "user": "u-1001",
    "campaign": "autumn-sale",
    "category": "marketing",
    "text": "Autumn sale: 20% off until Sunday.",
    **channels.EXAMPLE,
    "metadata": {"segment": "b"},
}
_LINES = '{"to": "+79161234567", "category": "otp", "text": "Your code is 4711"}\n'
_DUPLICATE = {"id": MESSAGE_ID, "outcome": "duplicate", "status": "queued"}
_EVENT = (
    f'id: 1795082400000-0.0\nevent: status\ndata: {{"id":"{MESSAGE_ID}","campaign":"autumn-sale",'
    f'"status":"delivered","channel":"{next(iter(channels.CHANNELS))}","reason":null,'
    '"at":"2026-11-21T10:00:00.000Z","final":true,"reaction":null}\n\n'
)
_REPLAYED = {
    "Idempotent-Replayed": {
        "description": "`true` when this is the first answer again.",
        "schema": {"const": "true"},
    }
}
_MESSAGE = {200: json_payload("The message.", MessageView)}
_PAGE = {200: json_payload("A page.", MessagesPage)}
_SEARCH = (
    f"By at least one of {', '.join(WHO)}; all that is given must hold. A page may be short or "
    "empty and still have `next`: go on until that is null."
)
_MESSAGE_ID = Parameter("id", "path", "The message's id.")

MESSAGES: tuple[HttpRoute[Endpoints], ...] = (
    HttpRoute(
        method="POST",
        path="/v1/messages",
        name="send",
        handler=lambda endpoints: endpoints.sends.send,
        scope="send",
        quiet=True,
        tag="Messages",
        summary="Send one message, an array, or a stream",
        text="Answered once durable. A stream is answered while it is read, one line "
        "for each line, in order; a client must read while it writes. A line that is an "
        "`error` is the last one that was read: go on from it.",
        parameters=[
            Parameter(
                "Idempotency-Key",
                "header",
                "The same key and body within 24 hours give the first answer "
                "again. Items of an array have `key#index`, lines of a stream `key#line`.",
                {"type": "string", "minLength": 1, "maxLength": KEY_MAX},
            ),
            Parameter(
                "dry_run",
                "query",
                "`true`: one message is decided as if it were sent now, and told why; nothing is "
                "sent, changed or remembered.",
                {"enum": ["true", "false"]},
            ),
        ],
        body=Payload(
            media={"application/json": one_or_many, "application/x-ndjson": {"type": "string"}},
            examples={"application/json": EXAMPLE, "application/x-ndjson": _LINES},
        ),
        answers={
            200: Payload(
                text="One message that was a duplicate or suppressed; or the results of an "
                "array, in order, with `index`; or of a stream, line by line, with `line`; or of "
                "a dry run.",
                media={
                    "application/json": (Result, list[Result], DryResult),
                    "application/x-ndjson": {"type": "string"},
                },
                examples={
                    "application/json": _DUPLICATE,
                    "application/x-ndjson": '{"line":1,"outcome":"accepted","id":'
                    f'"{MESSAGE_ID}","status":"queued"}}\n',
                },
                headers=_REPLAYED,
            ),
            202: Payload(
                text="Accepted: it will reach a final status.",
                media={"application/json": Result},
                examples={"application/json": {**_DUPLICATE, "outcome": "accepted"}},
                headers=_REPLAYED,
            ),
        },
        problems=[400, 422, 429],
    ),
    HttpRoute(
        method="GET",
        path="/v1/messages",
        name="findMessages",
        handler=lambda endpoints: endpoints.search.of_address,
        scope="read",
        tag="Messages",
        summary="The app's messages to somebody or of a campaign, newest first",
        text=_SEARCH,
        parameters=[
            Parameter("user", "query", "The person's id at the caller."),
            *(Parameter(name, "query", "Its plus sign may come as it is.") for name in ADDRESSES),
            Parameter("campaign", "query", "The campaign's name."),
            Parameter("status", "query", "Only messages with this status now.", Status),
            *PAGE,
        ],
        answers=_PAGE,
        problems=[400],
    ),
    HttpRoute(
        method="POST",
        path="/v1/messages/search",
        name="searchMessages",
        handler=lambda endpoints: endpoints.search.of_body,
        scope="read",
        tag="Messages",
        summary="The same, with what is sought in the body",
        text=_SEARCH,
        body=json_payload("", SearchRequest, {"user": "u-1001", "status": "delivered"}),
        answers=_PAGE,
        problems=[422],
    ),
    HttpRoute(
        method="GET",
        path="/v1/messages/{id}",
        name="getMessage",
        handler=lambda endpoints: endpoints.messages.get,
        scope="read",
        tag="Messages",
        summary="A message: its status, its steps and what it costs",
        parameters=[_MESSAGE_ID],
        answers=_MESSAGE,
        problems=[404],
    ),
    HttpRoute(
        method="GET",
        path="/v1/messages/{id}/timeline",
        name="getTimeline",
        handler=lambda endpoints: endpoints.messages.timeline,
        scope="read",
        tag="Messages",
        summary="What happened to a message, the oldest first",
        parameters=[_MESSAGE_ID],
        answers={200: json_payload("What happened.", TimelineView)},
        problems=[404],
    ),
    HttpRoute(
        method="GET",
        path="/v1/messages/{id}/explain",
        name="explainMessage",
        handler=lambda endpoints: endpoints.messages.explain,
        scope="read",
        tag="Messages",
        summary="Why a message is sent as it is",
        parameters=[_MESSAGE_ID],
        answers={200: json_payload("The gates and the steps.", ExplainView)},
        problems=[404],
    ),
    HttpRoute(
        method="DELETE",
        path="/v1/messages/{id}",
        name="cancelMessage",
        handler=lambda endpoints: endpoints.messages.cancel,
        scope="send",
        tag="Messages",
        summary="Cancel: no further step starts",
        parameters=[_MESSAGE_ID],
        answers=_MESSAGE,
        problems=[404, 409],
    ),
    HttpRoute(
        method="GET",
        path="/v1/events",
        name="followEvents",
        handler=lambda endpoints: endpoints.events.follow,
        scope="read",
        endless=True,
        tag="Messages",
        summary="Follow status changes and replies as Server-Sent Events",
        text="Each `event: status` carries an EventData object, each `event: inbound` a ReplyView. "
        "Reconnect with `Last-Event-ID` and nothing is missed.",
        parameters=[
            Parameter("Last-Event-ID", "header", "The id of the last event that was received.")
        ],
        answers={
            200: Payload(
                text="The stream; it does not end.",
                media={"text/event-stream": {"type": "string"}},
                examples={"text/event-stream": _EVENT},
                shown=[EventData, ReplyView],
            )
        },
    ),
)
