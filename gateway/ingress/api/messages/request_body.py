"""What a send request looks like: the Structs of `POST /v1/messages` with types and lengths, from
which the OpenAPI document is built (CONTRACT.md section 3). Pure; what is wrong with a request is
told by `requests`."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec

from gateway.core.addresses import PHONE_RULE, Recipient
from gateway.core.campaigns.send_windows import ZONE_CHARS_MAX
from gateway.core.channels import NO_CONTROL, TEXT_MAX, with_channels
from gateway.core.policy import TTL_MAX_MS
from gateway.core.records.words import ImportanceName, LinksWord
from gateway.ingress.api.bodies.names import Name
from providers.contract import Category

TTL_S_MAX = TTL_MAX_MS // 1000
METADATA_BYTES_MAX = 1024
VARS_BYTES_MAX = 4096
KEY_MAX = 255  # an idempotency key
WORTH = "low, normal (the default) or high: what the message is worth. Steps can ask for it."


class RequestBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message to one person. `null` is the same as leaving a key out. Kinds of address that are
    missing in `to` are taken from the stored `user`; of one that has some `to` may be left out."""

    to: (
        Annotated[
            str,
            msgspec.Meta(
                description=PHONE_RULE, extra_json_schema={"pattern": "^\\+[1-9][0-9]{6,14}$"}
            ),
        ]
        | Recipient
        | None
    ) = None
    category: (
        Annotated[
            Category,
            msgspec.Meta(
                description="otp, transactional or marketing; decides lane, caps and default "
                "route. Required, unless the campaign names it."
            ),
        ]
        | None
    ) = None
    text: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=TEXT_MAX,
                description=f"1 to {TEXT_MAX} characters: the content of every channel of the "
                "route that has no text of its own, and required where one has none. It goes "
                "before what its campaign says, and may be left out where that says something.",
            ),
        ]
        | None
    ) = None
    vars: (
        Annotated[
            dict[str, str],
            msgspec.Meta(
                description=f"An object of strings, at most {VARS_BYTES_MAX} bytes as JSON: each "
                "fills `{{name}}` in the campaign's content."
            ),
        ]
        | None
    ) = None
    user: Name | None = None
    campaign: Name | None = None
    route: Name | None = None
    send_at: (
        Annotated[
            datetime.datetime,
            msgspec.Meta(
                tz=True,
                description="RFC 3339, at most 30 days ahead: not before that moment. Past: at "
                "once.",
            ),
        ]
        | None
    ) = None
    tz: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=ZONE_CHARS_MAX,
                description="The recipient's IANA time zone, such as Europe/Moscow, for send "
                "windows.",
            ),
        ]
        | None
    ) = None
    importance: Annotated[ImportanceName, msgspec.Meta(description=WORTH)] | None = None
    links: (
        Annotated[
            LinksWord,
            msgspec.Meta(
                description="track: each URL that people can follow becomes a short link that "
                "counts who does; never for otp. Default: the campaign's, else "
                "`links.default` of the configuration."
            ),
        ]
        | None
    ) = None
    ttl: (
        Annotated[
            int,
            msgspec.Meta(
                ge=1,
                le=TTL_S_MAX,
                description=f"Seconds from 1 to {TTL_S_MAX}, after which no further step starts; "
                "counted from send_at, or from acceptance.",
            ),
        ]
        | None
    ) = None
    idempotency_key: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=KEY_MAX,
                description=f"1 to {KEY_MAX} characters without control characters.",
                extra_json_schema=NO_CONTROL,
            ),
        ]
        | None
    ) = None
    metadata: (
        Annotated[
            dict[str, str],
            msgspec.Meta(
                description=f"An object of strings, at most {METADATA_BYTES_MAX} bytes as JSON."
            ),
        ]
        | None
    ) = None


if TYPE_CHECKING:
    SendRequest = RequestBody
else:
    SendRequest = with_channels("SendRequest", RequestBody)
