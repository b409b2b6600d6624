"""What each field of the API means, with an example: the one place where the reference has it from.

A field is found by its schema's name and its own, else by its own alone, which then means the same
wherever it stands. The rule that a value keeps to stands at its type. One that refers to a schema
may be left out here: then it means what that says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.core.channels import CHANNELS

_CHANNEL = next(iter(CHANNELS))
MESSAGE_ID = "1M7Q5CQG0000000000AB"


class Field(NamedTuple):
    """Without an `example`, or with None where it cannot be null, one is made from its type."""

    meaning: str
    example: Any = msgspec.UNSET


FIELDS: Mapping[str, Field] = {
    "aof_bytes": Field("Bytes of its append-only file; 0: it has none.", 104_857_600),
    "app": Field("The app that sent it.", "shop"),
    "applied": Field("Receipts that were applied to their messages.", 1),
    "at": Field("When it happened."),
    "attempts": Field("How often a provider was asked to take it.", 1),
    "auth": Field("The authentication secret of the subscription.", "tBHItJI5svbpez7KI4CCXg"),
    "billed": Field("What the app pays; null until something is billed."),
    "by": Field("Who set it: an app, or `person`; null where that was not kept.", "shop"),
    "campaign": Field("The campaign it belongs to.", "autumn-sale"),
    "cancelled": Field("How many of them were live and are cancelled now.", 1),
    "caps": Field("How much of each frequency cap the person has used."),
    "category": Field("What kind of message it is.", "marketing"),
    "channel": Field("The channel.", _CHANNEL),
    "channels": Field("The opt-outs of single channels, by channel."),
    "claims": Field("The campaigns that reached the person, or are on their way."),
    "code": Field("Its short name, for a program.", "7002"),
    "cost": Field("What providers charge; null until something is charged."),
    "count": Field("Messages that count against the cap now.", 2),
    "created_at": Field("When it was accepted."),
    "currency": Field("The currency of both amounts.", "EUR"),
    "cursor": Field("Where to go on: `next` of the page before.", "3137"),
    "data": Field("What the application on the device gets beside the words.", {"order": "A-17"}),
    "delivered_at": Field("When it arrived, by the provider's clock."),
    "detail": Field("More about it, for people.", "asked by phone"),
    "disk_free_bytes": Field("Free bytes of its disk; null: not this machine's.", 53_687_091_200),
    "dispatchers": Field("Dispatchers that run; null: Redis is away.", 2),
    "done_at": Field("When it ended, delivered or not."),
    "endpoint": Field("Where the browser's own service takes it.", "https://updates.example/s/1"),
    "errors": Field("What is wrong, each where it stands; 20 at most."),
    "errors_total": Field("How many faults there are, where that is more than are told.", 31),
    "event": Field("What happened."),
    "faults": Field("Receipts that could not be read.", 0),
    "final": Field("No step is under way and none can start.", True),
    "fragmentation": Field("Memory it occupies over memory it uses.", 1.04),
    "from": Field("The sender's address."),
    "gate": Field("Which question was asked.", "cap"),
    "gates": Field("Every gate that was asked, in order, up to the one that stopped it."),
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
    "length": Field("How many messages wait.", 120),
    "age": Field("Seconds since the first of them came.", 1.5),
    "limit": Field("How many at most.", 2),
    "limit_bytes": Field("The most memory that it may use; null: it has no limit.", 4_294_967_296),
    "limited_by": Field("What keeps more from being sent; null: nothing does.", "rate"),
    "line": Field("Its line in the stream, from 1.", 1),
    "message": Field("The message that holds it.", MESSAGE_ID),
    "messages": Field("What the app sent to the person lately, the newest first."),
    "metadata": Field("What the caller gave along, as it came.", {"order": "A-17"}),
    "name": Field("Its name.", "two-a-day"),
    "next": Field("The cursor of the next page; null: this is the last.", None),
    "optouts": Field("The opt-outs of the addresses that the app itself sent to."),
    "outcome": Field("What was decided.", "accepted"),
    "p256dh": Field("The public key of the subscription.", "BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA"),
    "parked": Field("Receipts that wait for their message to be known.", 0),
    "parts": Field("How many parts its text is cut into; null: the channel cuts nothing.", 1),
    "paused": Field("Why nothing is sent; null: it is not paused.", None),
    "permanent": Field("Trying again cannot help.", True),
    "phone": Field("The person's phone number.", "+79161234567"),
    "plan": Field("The steps, in the order in which they are taken."),
    "pointer": Field("The key that is at fault (RFC 6901); empty: the whole.", "/to"),
    "provider": Field("The provider, as the configuration calls it; null: none yet.", "main"),
    "provider_id": Field("What the provider calls it.", f"{MESSAGE_ID}.0"),
    "providers": Field("How each provider stands, by its name."),
    "rate": Field("Messages a second that it may be sent; null: no dispatcher runs.", 500),
    "ready": Field("Requests can be served.", True),
    "reason": Field("Why; null where there is nothing to say.", None),
    "redis": Field("The Redis behind it."),
    "redis_servers": Field("How each Redis server is."),
    "refuses": Field("What is not taken for want of memory; null: everything is.", None),
    "reply_to": Field("Where answers go."),
    "retry_at": Field("When one more fits; null: at once."),
    "route": Field("The cascade of steps it goes by.", "default"),
    "scope": Field("What the person does not want; null: nothing.", "marketing"),
    "seen_at": Field("When the person opened it, as far as is known."),
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
    "verdict": Field("What came of it.", "pass"),
    "version": Field("The version of Kaskad.", "1.0.0"),
    "wait": Field("How long the step may take, as the configuration writes it.", "15m"),
    "window": Field("Over how long the cap counts.", "1d"),
    "caption": Field("What stands on the button."),
    "SendRequest.importance": Field("Asked by steps of the route."),
    "SendRequest.to": Field("Whom it goes to.", "+79161234567"),
    "Billing.billed": Field("What the app pays."),
    "Billing.cost": Field("What the providers charged."),
    "CapHit.name": Field("The cap that refused.", "two-a-day"),
    "CapHit.retry_at": Field("When one more fits."),
    "ChannelView.exposures": Field("Deliveries on the channel, as they count now.", 3.5),
    "ChannelView.rate": Field("How often the person reacts to a delivery there.", 0.0612),
    "ChannelView.rate_high": Field("The rate is hardly higher.", 0.3993),
    "ChannelView.rate_low": Field("The rate is hardly lower.", 0.0061),
    "ChannelView.reachable": Field(
        "Whether the person is reached there; null: nothing was heard lately of this address.", True
    ),
    "ChannelView.reachable_at": Field("When that was learned; null: it is not known."),
    "ChannelView.reactions": Field("Reactions on the channel, as they count now.", 0.5),
    "ClaimView.until": Field("Until when nothing more of it is sent; null: it is under way.", None),
    "DeedView.action": Field("What was done.", "provider.pause"),
    "DeedView.by": Field("`user@host` of a command line, or an app and its key.", "ann@ops1"),
    "DeedView.detail": Field("How, or why.", "maintenance until six"),
    "DeedView.id": Field("The deed's id.", "1795082400000-0"),
    "DeedView.target": Field("What it was done to.", "main"),
    "DryResult.reason": Field("What would stop it.", "frequency_cap"),
    "ErasedView.messages": Field("How many messages were erased.", 3),
    "Health.status": Field("It answers.", "ok"),
    "GateView.currency": Field("The currency of the price.", "EUR"),
    "GateView.detail": Field("More of it; null: nothing.", None),
    "GateView.message": Field("The message that has the campaign already.", MESSAGE_ID),
    "GateView.price": Field("What the app pays for the first step.", "0.0080"),
    "HappeningView.detail": Field("More of it; null: nothing.", None),
    "HappeningView.event": Field("What happened.", "delivered"),
    "HappeningView.provider": Field("The provider that had it; null: none.", "main"),
    "PauseRequest.reason": Field("Why; it is kept with who and when.", "maintenance until six"),
    "PauseState.paused": Field("Why nothing is sent to it; null: it is not paused."),
    "PauseView.by": Field("The operator who paused it.", "ann@ops1"),
    "PauseView.code": Field("Its cause, in a word.", "operator"),
    "PauseView.detail": Field("More about it, for people.", "maintenance until six"),
    "PauseView.kind": Field("What paused it: account, rejections, outage or operator.", "operator"),
    "PauseView.until": Field("When it is tried again; null: when somebody resumes it.", None),
    "PlannedStepView.detail": Field("Why it is skipped, and what else is of note.", None),
    "PlannedStepView.price": Field("What the app would pay for the step.", "0.0080"),
    "PlannedStepView.provider": Field("The provider first in line.", "main"),
    "PlannedStepView.until": Field("What the step waits for.", "delivered"),
    "Problem.detail": Field("What is wrong, for people.", "This message is final already."),
    "Problem.status": Field("The HTTP status.", 409),
    "Problem.title": Field("The kind of problem, in words.", "The message is final"),
    "ProviderView.errors": Field("Sends of the last minute that were not accepted.", 0),
    "Readiness.paused": Field("The providers that are not used for now."),
    "Readiness.redis": Field("Whether Redis can be reached.", "ok"),
    "Result.reason": Field("What stopped it.", "frequency_cap"),
    "RequestFault.detail": Field("What is wrong with it.", "A phone number in E.164."),
    "StepError.code": Field("Its code, the provider's own or one of ours.", "7002"),
    "StepError.name": Field("What that says in words.", "EC_UNKNOWN_USER"),
    "StepView.error": Field(
        "Why it did not arrive, or did not start; null: nothing is wrong.", None
    ),
    "StepView.provider": Field("The provider that has it; null until one is chosen.", "main"),
    "StepView.until": Field("What the step waits for.", "delivered"),
    "SearchRequest.status": Field("Only messages that are so far.", "delivered"),
    "UserView.channels": Field("What is known of the person on each channel."),
}


def field_of(schema: str, name: str) -> Field | None:
    """What a field of a schema means; None: it is not said here."""
    return FIELDS.get(f"{schema}.{name}") or FIELDS.get(name)
