"""What a field of the API means, with an example, by its name alone: the same wherever it stands.

What one means in one schema only stands in `schema_fields`. The rule that a value keeps to stands
at its type. One that refers to a schema may be left out: then it means what that says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.core.channels import CHANNELS

_CHANNEL = next(iter(CHANNELS))
MESSAGE_ID = "1M7Q5CQG0000000000AB"


class Field(NamedTuple):
    """Without an `example`, and where it does not fit the field, one is made from its type."""

    meaning: str
    example: Any = msgspec.UNSET


FIELDS: Mapping[str, Field] = {
    "age": Field("Seconds since the first of them came.", 1.5),
    "answer": Field("How the answer began.", "ok"),
    "aof_bytes": Field("Bytes of its append-only file; 0: it has none.", 104_857_600),
    "app": Field("The app that sent it.", "shop"),
    "applied": Field("Receipts that were applied to their messages.", 1),
    "at": Field("When it happened."),
    "attempt": Field("The how-manieth try it was.", 1),
    "attempts": Field("How often a provider was asked to take it.", 1),
    "auth": Field("The authentication secret of the subscription.", "tBHItJI5svbpez7KI4CCXg"),
    "billed": Field("What the app pays; null until something is billed."),
    "by": Field("Who set it: an app, or `person`; null where that was not kept.", "shop"),
    "campaign": Field("The campaign it belongs to.", "autumn-sale"),
    "cancelled": Field("How many of them were live and are cancelled now.", 1),
    "caps": Field("How much of each frequency cap the person has used."),
    "caption": Field("What stands on the button."),
    "category": Field("What kind of message it is.", "marketing"),
    "channel": Field("The channel.", _CHANNEL),
    "channels": Field("The opt-outs of single channels, by channel."),
    "claims": Field("The campaigns that reached the person, or are on their way."),
    "clicked_at": Field("When the person clicked, as far as is known.", None),
    "consent": Field("The opt-ins that were recorded."),
    "cost": Field("What providers charge; null until something is charged."),
    "count": Field("Messages that count against the cap now.", 2),
    "created_at": Field("When it was accepted."),
    "currency": Field("The currency of both amounts.", "EUR"),
    "cursor": Field("Where to go on: `next` of the page before.", "3137"),
    "data": Field("What the application on the device gets beside the words.", {"order": "A-17"}),
    "delivered_at": Field(
        "When it arrived, by the provider's clock; at the latest when it was told."
    ),
    "detail": Field("More of it; null: nothing.", None),
    "disk_free_bytes": Field("Free bytes of its disk; null: not this machine's.", 53_687_091_200),
    "dispatchers": Field("Dispatchers that run; null: Redis is away.", 2),
    "done_at": Field("When it ended, delivered or not."),
    "enabled": Field("Whether it is told anything.", True),
    "endpoint": Field("Where the browser's own service takes it.", "https://updates.example/s/1"),
    "errors": Field("What is wrong, each where it stands; 20 at most."),
    "errors_total": Field("How many faults there are, where that is more than are told.", 31),
    "events": Field("The types of events that it is told.", ["message.delivered"]),
    "failing_since": Field("Since when no try succeeded; null: the last one did.", None),
    "faults": Field("Receipts that could not be read.", 0),
    "final": Field("No step is under way and none can start.", True),
    "fragmentation": Field("Memory it occupies over memory it uses.", 1.04),
    "from": Field("The sender's address."),
    "gate": Field("Which question was asked.", "cap"),
    "gates": Field("Every gate that was asked, in order, up to the one that stopped it."),
    "holdout_percent": Field("The share of people that is left out; null: nobody.", None),
    "html": Field("The message as HTML."),
    "id": Field("The message's id.", MESSAGE_ID),
    "idempotency_key": Field("Makes this message safe to send again, as `Idempotency-Key` does."),
    "image_url": Field("A picture."),
    "importance": Field("What the message is worth.", "normal"),
    "in_flight": Field("Messages whose outcome is not recorded yet.", 12),
    "incident": Field("Names a fault of ours in the log.", "3f2b8c1d9e0a"),
    "index": Field("Its place in the array, from 0.", 0),
    "items": Field("What was asked for."),
    "keys": Field("What the browser's keys are."),
    "kind": Field("What kind it is."),
    "lanes": Field("What waits, by provider and category."),
    "latency_ms": Field("How long the receiver took.", 42),
    "length": Field("How many messages wait.", 120),
    "limit": Field("How many at most.", 2),
    "limit_bytes": Field("The most memory that it may use; null: it has no limit.", 4_294_967_296),
    "limited_by": Field("What keeps more from being sent; null: nothing does.", "rate"),
    "line": Field("Its line in the stream, from 1.", 1),
    "links": Field("Whether links are made short and counted; null: as configured.", None),
    "message": Field("The message that holds it.", MESSAGE_ID),
    "messages": Field("What the app sent to the person lately, the newest first."),
    "metadata": Field("What the caller gave along, as it came.", {"order": "A-17"}),
    "name": Field("Its name.", "two-a-day"),
    "next": Field("The cursor of the next page; null: this is the last.", None),
    "next_at": Field("When it is tried again; null: never.", None),
    "old_secret_until": Field("Until when the secret before signs too; null: none does.", None),
    "optouts": Field("The opt-outs of the addresses that the app itself sent to."),
    "outcome": Field("What was decided.", "accepted"),
    "p256dh": Field("The public key of the subscription.", "BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA"),
    "pace": Field("How many first steps a minute may start; null: any number.", "600/m"),
    "parked": Field("Receipts that wait for their message to be known.", 0),
    "parts": Field("How many parts its text is cut into; null: the channel cuts nothing.", 1),
    "paused": Field("Why nothing is sent; null: it is not paused.", None),
    "percent": Field("The share of people to whom it is said.", 50.0),
    "permanent": Field("Trying again cannot help.", True),
    "phone": Field("The person's phone number.", "+79161234567"),
    "plan": Field("The steps, in the order in which they are taken."),
    "pointer": Field("The key that is at fault (RFC 6901); empty: the whole.", "/to"),
    "provider": Field("The provider, as the configuration calls it; null: none yet.", "main"),
    "provider_id": Field("What the provider calls it.", f"{MESSAGE_ID}.0"),
    "providers": Field("How each provider stands, by its name."),
    "rate": Field("Messages a second that it may be sent; null: no dispatcher runs.", 500),
    "reaction": Field("The most that the person did with it; null: nothing known.", None),
    "ready": Field("Requests can be served.", True),
    "reason": Field("Why; null where there is nothing to say.", None),
    "recipients_max": Field("How many messages it may have; null: any number.", None),
    "recovering_since": Field("From when on all is told once more; null: nothing is.", None),
    "redis": Field("The Redis behind it."),
    "redis_servers": Field("How each Redis server is."),
    "refuses": Field("What is not taken for want of memory; null: everything is.", None),
    "reply_to": Field("Where answers go."),
    "retry_at": Field("When one more fits; null: at once."),
    "route": Field("The cascade of steps it goes by.", "default"),
    "scope": Field("What the person does not want; null: nothing.", "marketing"),
    "secret": Field("What calls are signed with.", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    "seen_at": Field("When the person opened it, as far as is known."),
    "send_window": Field("The hours in which its steps start; null: its category's.", None),
    "sender": Field("By whom it is shown to be sent."),
    "sent_at": Field("When the provider took it."),
    "servers": Field("One a server."),
    "shard": Field("The first shard that it serves.", 0),
    "since": Field("Since when."),
    "state": Field("Whether it is used.", "up"),
    "status": Field("How far it is.", "delivered"),
    "step": Field("The step's place in `steps`, from 0; null: the whole message.", 0),
    "steps": Field("Its steps, in the order of its route."),
    "subject": Field("The subject, without which no e-mail is sent."),
    "subscription": Field("The browser's subscription."),
    "success": Field("Whether it was told.", True),
    "text": Field("What is said."),
    "title": Field("The words above the others.", "There is no such thing"),
    "to": Field(
        "Whom it goes to: a phone number alone, or addresses; null once erased.", "+79161234567"
    ),
    "token": Field("The device's registration token.", "dQw4w9WgXcQ:APA91b"),
    "ttl": Field("How long it is worth sending."),
    "type": Field(
        "Which problem it is: a place on the /docs page that explains it.", "/docs#final"
    ),
    "until": Field("Until when; null: its end is not known.", None),
    "updated_at": Field("When it changed last."),
    "url": Field("Where it leads."),
    "used": Field("Messages a second that are sent.", 480.0),
    "used_bytes": Field("Memory that it uses.", 1_073_741_824),
    "used_percent": Field("The same as a share of its limit; null: it has none.", 25),
    "user": Field("The person's id at the caller.", "u-1001"),
    "variants": Field("What is said to shares of people instead; null: nothing."),
    "vars": Field("What is filled in where the campaign's content has places.", {"name": "Anna"}),
    "verdict": Field("What came of it.", "pass"),
    "version": Field("The version of Kaskad.", "1.0.0"),
    "wait": Field("How long the step may take, as the configuration writes it.", "15m"),
    "waiting": Field("How many events wait to be told.", 0),
    "window": Field("Over how long the cap counts.", "1d"),
}
