"""Every knob of the simulator: its unit, its range and a sentence on what it does.

A frozen Struct, so a change is a new whole that was checked as a whole. A value out of range raises
KnobFault, which names the key and says what to write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from providers.contract import Channel
from providers.registry import KINDS
from providers.settings import ProviderSettings
from providers.simulator.habits import People, people_problem
from providers.simulator.prices import Price, load_prices, price_problem
from providers.simulator.ranges import Count, Millis, Rate, Share
from providers.simulator.twins import CHANNELS, TWINS
from providers.simulator.vocabulary import Ending, State

ChargedOn = Literal["sent", "delivered"]


class Override(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What happens to one number on one channel; None leaves a feature to its share.

    `ending` is how the message ends: `rejected` inside the send answer, `undelivered` and `expired`
    by receipt, `silent` without one. `status` and `error` are the provider's ids. `reply` is what
    the person writes back to each message that is delivered. Times in milliseconds.
    """

    ending: Ending | None = None
    status: int | None = None
    error: int | None = None
    seen: bool | None = None
    early: bool | None = None
    lost: bool | None = None
    reordered: bool | None = None
    repeats: Count | None = None
    receipt_ms: Millis | None = None  # from acceptance to the outcome
    late_ms: Millis | None = None  # from the outcome to its report
    then_delivered_ms: Millis | None = (
        None  # an unreached message is delivered so long after its end
    )
    reply: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None


class Overrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    viber: Override | None = None
    sms: Override | None = None
    push: Override | None = None
    email: Override | None = None


def _share(what: str) -> Any:
    return Meta(description=f"Share of {what}.", extra_json_schema={"unit": "share 0..1"})


def _ms(what: str) -> Any:
    return Meta(description=what, extra_json_schema={"unit": "ms"})


def _knob(unit: str, what: str) -> Any:
    return Meta(description=what, extra_json_schema={"unit": unit})


_DEFAULT_PRICES: Final = (
    Price(channel="viber", price="0.0100"),
    Price(channel="sms", price="0.0400"),
    Price(channel="push", price="0"),
    Price(channel="email", price="0.0020"),
)


class Knobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The simulator's behaviour: the same knobs and ids give the same fates, in any order."""

    seed: Annotated[int, Meta(ge=0, le=2**53), _knob("", "What every draw starts from.")] = 1

    # Who is reached, and how a message ends.
    viber_share: Annotated[Share, _share("phone numbers that have Viber")] = 0.53
    viber_delivered: Annotated[Share, _share("Viber members' messages that are delivered")] = 0.93
    viber_undelivered: Annotated[
        Share, _share("Viber members' messages that fail; the rest is not reached")
    ] = 0.02
    sms_delivered: Annotated[Share, _share("SMS that are delivered")] = 0.96
    sms_undelivered: Annotated[Share, _share("SMS that fail; the rest is not reached")] = 0.03
    push_share: Annotated[
        Share, _share("device tokens and subscriptions that are alive; the rest is gone")
    ] = 0.97
    email_share: Annotated[Share, _share("e-mail addresses that are somebody's")] = 0.97
    email_delivered: Annotated[Share, _share("mails to such addresses that arrive")] = 0.98
    email_undelivered: Annotated[
        Share, _share("mails to such addresses that bounce; the rest is not reached")
    ] = 0.02
    email_complained: Annotated[
        Share, _share("mails that arrive whose readers report them as spam")
    ] = 0.0
    seen_share: Annotated[Share, _share("what is delivered by Viber and e-mail that is seen")] = 0.6
    non_viber: Annotated[
        Literal["receipt", "reject"],
        _knob("", "A number without Viber: an undelivered receipt, or a reject inside the answer."),
    ] = "receipt"
    non_viber_status: Annotated[int, _knob("status id", "The status of that receipt.")] = 9
    non_viber_error: Annotated[int, _knob("error id", "The error of that receipt.")] = 7002
    unreached: Annotated[
        Literal["expired", "silent"],
        _knob("", "An unreached message: EXPIRED at its validity period, or silence for ever."),
    ] = "expired"
    expiry_ms: Annotated[
        Millis, _ms("Expire so long after acceptance; 0 is the request's own validity period.")
    ] = 0
    revive_share: Annotated[Share, _share("unreached messages delivered after their expiry")] = 0.0
    revive_ms: Annotated[Millis, _ms("From the expiry to that delivery.")] = 1_000
    reject_share: Annotated[Share, _share("messages rejected inside a good answer")] = 0.0
    reject_status: Annotated[int, _knob("status id", "The status of those rejects.")] = 6
    by_phone: Annotated[
        dict[str, Overrides],
        _knob(
            "",
            "What happens to named numbers (with or without the plus sign), tokens, "
            "subscriptions and e-mail addresses, by channel.",
        ),
    ] = {}
    people: Annotated[
        tuple[People, ...],
        _knob("", "Kinds of people, by their habits; instead of viber_share and seen_share."),
    ] = ()

    # When.
    answer_ms_min: Annotated[Millis, _ms("Shortest time to answer a send.")] = 2
    answer_ms_max: Annotated[Millis, _ms("Longest time to answer a send.")] = 20
    receipt_ms_min: Annotated[Millis, _ms("Shortest time from acceptance to the outcome.")] = 50
    receipt_ms_max: Annotated[Millis, _ms("Longest time from acceptance to the outcome.")] = 500
    seen_ms_min: Annotated[Millis, _ms("Shortest time from delivery to the look.")] = 200
    seen_ms_max: Annotated[Millis, _ms("Longest time from delivery to the look.")] = 2_000

    # Requests that go wrong.
    lost_share: Annotated[
        Share, _share("requests lost: the connection closes, nothing is accepted")
    ] = 0.0
    answer_lost_share: Annotated[
        Share, _share("sends accepted whose answer is lost: the connection closes")
    ] = 0.0
    garbage_share: Annotated[Share, _share("sends accepted whose 200 cannot be read")] = 0.0
    throttle_share: Annotated[Share, _share("requests refused with 429")] = 0.0
    retry_after_s: Annotated[
        Annotated[int, Meta(ge=0, le=3_600)],
        _knob("s", "Retry-After of a 429; 0 leaves the header out."),
    ] = 1
    server_error_share: Annotated[Share, _share("requests answered with 500, 502 or 503")] = 0.0
    server_error_accepts: Annotated[
        bool, _knob("", "Whether a send answered with 5xx was accepted all the same.")
    ] = False
    rate_per_s: Annotated[
        Rate, _knob("messages/s", "Above it, a channel answers 429; 0 is no limit.")
    ] = 0
    outage: Annotated[
        Literal["none", "refuse", "hang", "unavailable"],
        _knob("", "Refuse: connections close. Hang: no answer. Unavailable: 503 to everything."),
    ] = "none"
    outage_ms: Annotated[Millis, _ms("How long an outage lasts; 0 is until the knob changes.")] = 0
    error_shape: Annotated[
        Literal["api", "request"],
        _knob("", "ApiError (current endpoints) or requestError (older ones) as error body."),
    ] = "api"
    request_messages_max: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)],
        _knob("messages", "A request with more is a 400."),
    ] = 1_000

    # Receipts that go wrong.
    receipt_lost_share: Annotated[Share, _share("messages whose reports are never pushed")] = 0.0
    repeat_share: Annotated[Share, _share("messages whose reports are pushed repeatedly")] = 0.0
    repeat_times: Annotated[Count, _knob("reports", "How many more times.")] = 1
    repeat_gap_ms: Annotated[Millis, _ms("Between two repeats.")] = 20
    reordered_share: Annotated[
        Share, _share("messages whose later report is pushed before the earlier one")
    ] = 0.0
    early_share: Annotated[Share, _share("messages reported before their send is answered")] = 0.0
    late_share: Annotated[Share, _share("messages whose report comes late")] = 0.0
    late_ms: Annotated[Millis, _ms("From the outcome to a late report.")] = 5_000

    # Pushing.
    flush_ms: Annotated[Millis, _ms("How long reports gather before they are pushed.")] = 5
    push_reports_max: Annotated[
        Annotated[int, Meta(ge=1, le=2_000)],
        _knob("reports", "Reports in one POST at most."),
    ] = 100
    push_connections: Annotated[
        Annotated[int, Meta(ge=1, le=1_000)],
        _knob("connections", "POSTs under way at once."),
    ] = 8
    push_timeout_ms: Annotated[
        Annotated[int, Meta(ge=10, le=90_000)],
        _ms("How long a POST may take before it counts as failed."),
    ] = 10_000
    push_retries: Annotated[
        Annotated[int, Meta(ge=0, le=20)],
        _knob("retries", "How often a failed POST is repeated."),
    ] = 5
    push_retry_scale: Annotated[
        Annotated[float, Meta(ge=0, le=1)],
        _knob("factor", "On the provider's delay of 1 + n*n minutes before retry n."),
    ] = 0.01
    push_basic: Annotated[str, _knob("user:password", "HTTP basic of a POST; empty is none.")] = ""
    push_headers: Annotated[dict[str, str], _knob("", "Fixed headers of a POST.")] = {}
    push_hmac_secret: Annotated[str, _knob("", "Key of the body's HMAC; empty is none.")] = ""
    push_hmac_header: Annotated[str, _knob("", "Header that carries it, in hex.")] = (
        "X-Infobip-Signature"
    )
    push_hmac_algorithm: Annotated[
        Literal["sha1", "sha256", "sha512"], _knob("", "Hash of the HMAC.")
    ] = "sha256"

    hooks: Annotated[
        dict[str, str],
        _knob("", "Where reports go of providers that are not told with each request, by kind."),
    ] = {}

    # Money.
    prices: Annotated[
        tuple[Price, ...], _knob("", "Price of one part; a number without a price has no route.")
    ] = _DEFAULT_PRICES
    viber_charged_on: Annotated[ChargedOn, _knob("", "When a Viber message is charged.")] = (
        "delivered"
    )
    sms_charged_on: Annotated[ChargedOn, _knob("", "When an SMS is charged.")] = "sent"
    push_charged_on: Annotated[ChargedOn, _knob("", "When a notification is charged.")] = "sent"
    email_charged_on: Annotated[ChargedOn, _knob("", "When an e-mail is charged.")] = "sent"
    price_when_free: Annotated[
        bool, _knob("", "Whether the report of an uncharged message still carries the list price.")
    ] = True

    def share(self, channel: Channel) -> float:
        """The share of people who have the channel; everybody has one that no knob names."""
        share: float = getattr(self, f"{channel}_share", 1.0)
        return share

    def delivered(self, channel: Channel) -> float:
        """Everything, where no knob says otherwise: nobody would hear of it."""
        share: float = getattr(self, f"{channel}_delivered", 1.0)
        return share

    def undelivered(self, channel: Channel) -> float:
        share: float = getattr(self, f"{channel}_undelivered", 0.0)
        return share

    def complained(self, channel: Channel) -> float:
        share: float = getattr(self, f"{channel}_complained", 0.0)
        return share

    def charged_on(self, channel: Channel) -> ChargedOn:
        when: ChargedOn = getattr(self, f"{channel}_charged_on")
        return when


class KnobFault(ValueError):
    """A knob that cannot be used: `key` as written, `sentence` says what to write."""

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(f"{key}: {sentence}")
        self.key = key
        self.sentence = sentence


class Explained(msgspec.Struct, frozen=True):
    """One knob for a reader: its unit, what it does, its default and its value now."""

    key: str
    unit: str
    sentence: str
    default: Any
    value: Any


_PATH = re.compile(r" - at `\$\.?([^`]*)`$")
_PAIRS: Final = ("answer_ms", "receipt_ms", "seen_ms")
_REJECTED: Final = (State.REJECTED,)
_UNDELIVERED: Final = (State.UNDELIVERED, State.REJECTED)
_STATES: Final[dict[str, tuple[State, ...]]] = {  # that a status of an ending may mean
    "rejected": _REJECTED,
    "undelivered": (State.UNDELIVERED, State.EXPIRED, State.REJECTED),
    "expired": (State.EXPIRED,),
    "delivered": (State.DELIVERED,),
}


def knobs_of(providers: Mapping[str, ProviderSettings], price_file: Path) -> Knobs:
    """What the configured providers charge, and when. Raises KnobFault, ValueError and OSError for
    a price file that cannot be read."""
    channels = {name: KINDS[provider.kind].channel for name, provider in providers.items()}
    charged = {
        f"{channels[name]}_charged_on": provider.charged_on for name, provider in providers.items()
    }
    return replace(changed(Knobs(), charged), prices=load_prices(price_file, channels))


def changed(knobs: Knobs, patch: object) -> Knobs:
    """`knobs` with the keys of `patch` (decoded JSON) replaced and checked. Raises KnobFault."""
    if not isinstance(patch, dict):
        raise KnobFault("", "Write a JSON object of knobs and their values.")
    for key in patch:
        if key not in Knobs.__struct_fields__:
            raise KnobFault(
                str(key), "There is no such knob; GET /_sim/knobs?explain=1 lists them."
            )
    try:
        whole = msgspec.convert({**msgspec.to_builtins(knobs), **patch}, Knobs)
    except msgspec.ValidationError as fault:
        text = str(fault)
        found = _PATH.search(text)
        key = found.group(1) if found else ""
        raise KnobFault(key, _PATH.sub("", text) + ".") from None
    return check(whole)


def check(knobs: Knobs) -> Knobs:
    """Checks what single ranges cannot say, and returns `knobs`. Raises KnobFault."""
    for pair in _PAIRS:
        if getattr(knobs, f"{pair}_min") > getattr(knobs, f"{pair}_max"):
            raise KnobFault(f"{pair}_min", f"Must not be above {pair}_max.")
    for channel in CHANNELS:
        if knobs.delivered(channel) + knobs.undelivered(channel) > 1.000_001:
            raise KnobFault(
                f"{channel}_undelivered", f"With {channel}_delivered it must not pass 1."
            )
    _check_status("non_viber_status", knobs.non_viber_status, _UNDELIVERED)
    _check_status("reject_status", knobs.reject_status, _REJECTED)
    _check_error("non_viber_error", knobs.non_viber_error)
    for phone, overrides in knobs.by_phone.items():
        _check_overrides(f"by_phone.{phone}", phone, overrides)
    if (problem := people_problem(knobs.people, CHANNELS)) is not None:
        raise KnobFault(f"people{problem[0]}", problem[1])
    for index, price in enumerate(knobs.prices):
        if price.channel not in CHANNELS:
            raise KnobFault(f"prices[{index}]", f"There is no channel {price.channel!r}.")
        fault = price_problem(price)
        if fault:
            raise KnobFault(f"prices[{index}]", fault)
    return knobs


def explained(knobs: Knobs) -> list[Explained]:
    """Every knob with its unit and sentence, in the order of the source."""
    plain, usual = msgspec.to_builtins(knobs), msgspec.to_builtins(Knobs())
    schema = msgspec.json.schema(Knobs)["$defs"]["Knobs"]["properties"]
    return [
        Explained(
            key=key,
            unit=schema[key].get("unit", ""),
            sentence=schema[key].get("description", ""),
            default=usual[key],
            value=plain[key],
        )
        for key in Knobs.__struct_fields__
    ]


def _check_overrides(key: str, phone: str, overrides: Overrides) -> None:
    anywhere = overrides.push is not None or overrides.email is not None
    if not anywhere and not phone.removeprefix("+").isdecimal():
        raise KnobFault(key, "Write the phone number in digits, with or without the plus sign.")
    for channel in CHANNELS:
        override: Override | None = getattr(overrides, channel)
        if override is None:
            continue
        if override.status is not None:
            states = _STATES.get(override.ending or "", ())
            _check_status(f"{key}.{channel}.status", override.status, states)
        if override.error is not None:
            _check_error(f"{key}.{channel}.error", override.error)


def _check_status(key: str, number: int, states: tuple[State, ...]) -> None:
    """No states: any will do."""
    words = [twin.catalogue.statuses for twin in TWINS.values()]
    known = [statuses[number] for statuses in words if number in statuses]
    if not known:
        raise KnobFault(key, f"{number} is not an id the provider uses.")
    for status in known:
        if states and status.state not in states:
            wanted = " or ".join(state.name.lower() for state in states)
            told = status.state.name.lower()
            raise KnobFault(key, f"Status {number} means {told}, not {wanted}.")


def _check_error(key: str, number: int) -> None:
    if not any(number in twin.catalogue.errors for twin in TWINS.values()):
        raise KnobFault(key, f"{number} is not an id the provider uses.")
