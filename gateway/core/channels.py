"""What a channel is: one row of the table here, and no other line of the gateway names one.

A row says how people call the channel, which kind of address it needs, what a request may override
for it, how its parts are counted and what its receipts can show. A new channel is a row here and an
adapter in `providers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from gateway.core import segments
from providers import contract

AddressKind = Literal["phone", "email", "push"]
Until = Literal["delivered", "seen", "clicked"]

_UNTIL_DOWNWARDS: tuple[Until, ...] = ("clicked", "seen", "delivered")

TEXT_MAX = 1000
URL_MAX = 1000
HTML_BYTES_MAX = 32 * 1024
TEXT_RULE = f"1 to {TEXT_MAX} characters."
URL_RULE = f"An absolute http or https address of at most {URL_MAX} characters."
NO_CONTROL = {"pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"}

MessageText = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_MAX, description=TEXT_RULE)]
Url = Annotated[
    str,
    msgspec.Meta(
        min_length=8,
        max_length=URL_MAX,
        description=URL_RULE,
        extra_json_schema={"pattern": "^https?://[^\\s]+$"},
    ),
]


class Button(contract.LinkButton, frozen=True, forbid_unknown_fields=True):
    """A button below a message."""

    caption: Annotated[
        str, msgspec.Meta(min_length=1, max_length=30, description="1 to 30 characters.")
    ]
    url: Url


class ChannelContent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a message says differently on one channel; None: as everywhere."""

    text: MessageText | None = None


class ViberContent(ChannelContent, frozen=True, forbid_unknown_fields=True):
    """What differs on Viber. A button needs a text, here or in `text` of the message."""

    image_url: Url | None = None
    button: Button | None = None


class SmsContent(ChannelContent, frozen=True, forbid_unknown_fields=True):
    """What differs on SMS."""

    sender: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=16,
                description="A sender of 1 to 16 characters that the provider knows.",
                extra_json_schema=NO_CONTROL,
            ),
        ]
        | None
    ) = None


class EmailContent(
    ChannelContent, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}
):
    """What differs in e-mail, and its subject, without which no e-mail is sent."""

    subject: (
        Annotated[
            str, msgspec.Meta(min_length=1, max_length=255, description="1 to 255 characters.")
        ]
        | None
    ) = None
    html: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=HTML_BYTES_MAX,
                description="HTML of at most 32 KiB; without it the text is sent as plain text.",
            ),
        ]
        | None
    ) = None
    from_: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=3,
                max_length=320,
                description="The sender: an address, also with a name, such as "
                "Shop <news@shop.example>. Without it the provider's own.",
            ),
        ]
        | None
    ) = None
    reply_to: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=3,
                max_length=320,
                description="Where answers go: an address, also with a name.",
            ),
        ]
        | None
    ) = None


class PushContent(ChannelContent, frozen=True, forbid_unknown_fields=True):
    """What differs in a push notification."""

    title: (
        Annotated[
            str, msgspec.Meta(min_length=1, max_length=100, description="1 to 100 characters.")
        ]
        | None
    ) = None
    image_url: Url | None = None
    url: Url | None = None
    data: (
        Annotated[
            dict[str, str], msgspec.Meta(description="An object of strings, for the application.")
        ]
        | None
    ) = None


class ChannelRow(msgspec.Struct, frozen=True):
    """One row. `parts` counts what a text is cut into; None: the channel cuts nothing.

    `shows` is what its receipts can tell. Of each group in `needs` one field must be filled, else
    there is nothing to send on the channel. `prior` is how often, of a million deliveries, a person
    of whom nothing is known reacts."""

    name: str
    label: str
    address: AddressKind
    content: type[ChannelContent]
    shows: frozenset[Until]
    parts: Callable[[str], int] | None = None
    needs: tuple[tuple[str, ...], ...] = (("text",),)
    prior: int = 0
    retail: tuple[int, str] | None = None  # marketing a person and window, by the preset "retail"
    scanned: bool = False  # programs follow its links before anybody reads it
    one_click: bool = False  # people's programs unsubscribe by a header of its messages
    says_text: bool = False  # a text is all that is needed

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "says_text", self.needs == (("text",),))

    @property
    def price_unit(self) -> Literal["part", "message"]:
        """What one price is for: a part where texts are cut into parts, else a message."""
        return "part" if self.parts is not None else "message"

    def can_show(self, until: Until) -> Until:
        """What counts here where `until` is asked: that, or the next lower that its receipts can
        tell."""
        lower = _UNTIL_DOWNWARDS[_UNTIL_DOWNWARDS.index(until) :]
        return next(each for each in lower if each in self.shows)

    def count(self, text: str) -> int:
        """How many units of price a text is."""
        return self.parts(text) if self.parts is not None else 1


CHANNELS: Mapping[str, ChannelRow] = {
    row.name: row
    for row in (
        ChannelRow(
            "viber",
            "Viber",
            "phone",
            ViberContent,
            frozenset(("delivered", "seen")),
            prior=60_000,
            retail=(1, "1d"),
        ),
        ChannelRow(
            "sms",
            "SMS",
            "phone",
            SmsContent,
            frozenset(("delivered",)),
            segments.parts,
            prior=40_000,
            retail=(2, "30d"),
        ),
        ChannelRow(
            "email",
            "E-mail",
            "email",
            EmailContent,
            frozenset(("delivered", "seen", "clicked")),
            needs=(("subject",), ("text", "html")),
            scanned=True,
            one_click=True,
            prior=20_000,
            retail=(3, "7d"),
        ),
        ChannelRow(
            "push",
            "Push",
            "push",
            PushContent,
            frozenset(("delivered", "seen", "clicked")),
            prior=30_000,
        ),
    )
}

if TYPE_CHECKING:
    ChannelName = str
    ChannelOrAny = str
else:
    ChannelName = Literal[tuple(CHANNELS)]
    ChannelOrAny = Literal[("any", *CHANNELS)]


def with_channels(name: str, body: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """A body that has beside its own keys one a channel, for what differs there."""
    return msgspec.defstruct(
        name,
        [(row.name, row.content | None, None) for row in CHANNELS.values()],
        bases=(body,),
        module=body.__module__,
        namespace={"__doc__": body.__doc__},
        frozen=True,
        forbid_unknown_fields=True,
        omit_defaults=True,
    )


# What a documented request says differently on one channel.
EXAMPLE: Mapping[str, object] = {
    "viber": {
        "image_url": "https://shop.example/autumn.png",
        "button": {"caption": "To the shop", "url": "https://shop.example/autumn"},
    },
    "email": {"subject": "Autumn sale", "html": "<p>Autumn sale: 20 % off until Sunday.</p>"},
}

BASELINE_DEFAULT = "sms"  # what reports compare with where `prices.baseline` names no channel
BASELINE_COLUMN = "sms_only_cost"  # ... and its public name, whatever channel that is


def priors() -> dict[str, int]:
    """By channel, how often somebody of whom nothing is known reacts."""
    return {name: row.prior for name, row in CHANNELS.items()}


def label_of(channel: str) -> str:
    """How people call a channel; one that is not in the table by its own name."""
    row = CHANNELS.get(channel)
    return row.label if row is not None else channel.capitalize()
