"""What `PUT` and `PATCH /v1/users/{user}` and a line of `POST /v1/users` may look like, and what
they make of a stored user.

A body is read key by key, so that all its faults are told at once and a key that is left out
differs from one that is `null`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import msgspec

from gateway.core import addresses
from gateway.core.addresses import KINDS, Addresses, Destination, Recipient
from gateway.core.campaigns.send_windows import ZONE_CHARS_MAX, zone_named
from gateway.core.channels import ChannelName
from gateway.core.records.user import Consent, StoredUser
from gateway.core.texts import has_control, is_blank, name_of
from gateway.core.views.words import epoch_ms, rfc3339
from gateway.ingress.api.bodies.decoder import MOMENT_RULE, Moment, ReadKeys, not_json, read_keys
from gateway.ingress.api.bodies.names import Name, name_fault
from gateway.ingress.http.asgi import NOT_JSON
from gateway.ingress.http.problems import Problem, RequestFault, invalid, problem
from providers.contract import Category

CONSENTS_MAX = 50
SOURCE_MAX = 200
AHEAD_MAX_MS = 86_400_000  # how far the clock of an app may be ahead
EXAMPLE = '{"phone": "+79161234567", "tz": "Europe/Moscow"}'

_ZONE_RULE = "A time zone of the IANA database, such as Europe/Moscow."
_LOCALE_RULE = "A language tag, such as ru or ru-RU."
_SOURCE_RULE = f"Where the person said so: 1 to {SOURCE_MAX} characters."


class ConsentBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An opt-in as the app recorded it; without `channel` it is for every channel."""

    category: Category
    given_at: Annotated[
        str,
        msgspec.Meta(
            max_length=40, description=MOMENT_RULE, extra_json_schema={"format": "date-time"}
        ),
    ]
    source: Annotated[
        str, msgspec.Meta(min_length=1, max_length=SOURCE_MAX, description=_SOURCE_RULE)
    ]
    channel: ChannelName | None = None


class UserBody(Recipient, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is kept of a user. PUT keeps this alone; PATCH changes the keys that are given, and
    `null` takes one away."""

    tz: Annotated[str, msgspec.Meta(max_length=ZONE_CHARS_MAX, description=_ZONE_RULE)] | None = (
        None
    )
    locale: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=35,
                pattern="^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$",
                description=_LOCALE_RULE,
            ),
        ]
        | None
    ) = None
    consent: Annotated[list[ConsentBody], msgspec.Meta(max_length=CONSENTS_MAX)] | None = None


class UserLine(UserBody, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The same with whom it is about."""

    user: Name


class UserSettings(NamedTuple):
    """A body that passed. `given` are the keys that were there; `addresses` those it names."""

    user: str
    addresses: Addresses
    given: frozenset[str]
    tz: str | None
    locale: str | None
    consent: tuple[Consent, ...]

    def put(self, app: str, now_ms: int) -> StoredUser:
        """All that is kept from now on."""
        return StoredUser(app, now_ms, self.addresses, self.tz, self.locale, self.consent)

    def patch(self, kept: StoredUser, app: str, now_ms: int) -> StoredUser:
        """What is kept with the given keys changed."""
        return StoredUser(
            app,
            now_ms,
            kept.addresses.changed(self.addresses, self.given.intersection(KINDS)),
            self.tz if "tz" in self.given else kept.tz,
            self.locale if "locale" in self.given else kept.locale,
            self.consent if "consent" in self.given else kept.consent,
        )


def read_body(raw: bytes, user: str, now_ms: int) -> UserSettings | Problem:
    """The body of a call that names the user in its path."""
    return _read(UserBody, raw, now_ms, lambda _: user)


def read_line(raw: bytes, now_ms: int) -> UserSettings | Problem:
    return _read(UserLine, raw, now_ms, lambda found: name_of(found.values.get("user", "")))


def _read(
    kind: type[UserBody], raw: bytes, now_ms: int, user_of: Callable[[ReadKeys], str]
) -> UserSettings | Problem:
    try:
        found = read_keys(kind, raw, EXAMPLE)
    except NOT_JSON as error:
        return problem("malformed", not_json(raw, error))
    if found.faults and not found.unread:
        return invalid(found.faults, found.total)  # it is no object
    user, values = user_of(found), found.values
    faults: list[RequestFault] = []
    if "user" not in found.unread and (detail := name_fault(user)):
        faults.append(RequestFault("/user", detail))
    named = _addresses(values, faults)
    if (zone := values.get("tz")) is not None and zone_named(zone) is None:
        faults.append(RequestFault("/tz", _ZONE_RULE))
    consent = list(_consents(values.get("consent") or [], now_ms, faults))
    if found.faults or faults:
        return invalid(found.faults + faults, found.total + len(faults))
    return UserSettings(user, named, frozenset(values), zone, values.get("locale"), tuple(consent))


def _addresses(values: dict[str, Any], faults: list[RequestFault]) -> Addresses:
    if all(values.get(kind) in (None, []) for kind in KINDS):
        return Addresses()
    named = Recipient(**{kind: values.get(kind) for kind in KINDS})
    read = addresses.read(named)
    if isinstance(read, Destination):
        return read.addresses
    faults += (RequestFault(fault.pointer, fault.detail) for fault in read)
    return Addresses()


def _consents(
    given: list[ConsentBody], now_ms: int, faults: list[RequestFault]
) -> Iterator[Consent]:
    for index, each in enumerate(given):
        given_ms = _moment_ms(each.given_at)
        pointer = f"/consent/{index}"
        if given_ms is None:
            faults.append(RequestFault(f"{pointer}/given_at", MOMENT_RULE))
        elif given_ms > now_ms + AHEAD_MAX_MS:
            faults.append(RequestFault(f"{pointer}/given_at", "It is yet to come."))
        if has_control(each.source) or is_blank(each.source):
            faults.append(RequestFault(f"{pointer}/source", _SOURCE_RULE))
        yield Consent(each.category, given_ms or 0, each.source, each.channel)


def _moment_ms(text: str) -> int | None:
    try:
        return epoch_ms(msgspec.convert(text, Moment))
    except msgspec.ValidationError:
        return None


def shown_consents(kept: StoredUser) -> list[ConsentBody]:
    """As they were recorded."""
    return [ConsentBody(c.category, rfc3339(c.given_ms), c.source, c.channel) for c in kept.consent]
