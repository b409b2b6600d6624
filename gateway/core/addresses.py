"""Where a message goes: its addresses by kind, as they are read, kept and shown.

`read` turns `to` of a request into `Addresses`, two spellings of one address into one, because a
phone number and an e-mail address are identities of a person. What cannot be an address is told as
a pointer and a sentence; whether one is in service only its provider knows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import Annotated, get_args

import idna
import msgspec
from msgspec import field
from msgspec.structs import replace

from gateway.core import phones
from gateway.core.channels import AddressKind
from gateway.core.phones import NO_COUNTRY, Phone, PhoneError, Tariff
from gateway.core.texts import SPELLED_CHARS_MAX
from providers.contract import Device, FcmAddress, WebPushAddress

PUSH_MAX = 5
EMAIL_CHARS_MAX = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets
LOCAL_BYTES_MAX = 64
PHONE_RULE = "A phone number in E.164, such as +79161234567."
MAILBOX_RULE = "An e-mail address, such as anna@shop.example."
NAMED_MAILBOX_RULE = "An e-mail address, also with a name, such as Shop <news@shop.example>."
PUSH_RULE = f"At most {PUSH_MAX} device tokens or subscriptions."
TO_RULE = "Give at least one address: phone, email or push."
TO_OR_USER_RULE = f"{PHONE_RULE} Or addresses by kind, or leave it out and name a stored `user`."

# RFC 5322's dot-atom, with letters of any script (RFC 6531); quoted local parts are refused.
_local = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*").fullmatch
_label = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?").fullmatch


class Recipient(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One person's addresses, at least one."""

    phone: (
        Annotated[
            str,
            msgspec.Meta(
                description=PHONE_RULE, extra_json_schema={"pattern": "^\\+[1-9][0-9]{6,14}$"}
            ),
        ]
        | None
    ) = None
    email: Annotated[str, msgspec.Meta(description=MAILBOX_RULE)] | None = None
    push: (
        Annotated[
            list[Device],
            msgspec.Meta(max_length=PUSH_MAX, description=PUSH_RULE),
        ]
        | None
    ) = None


class Addresses(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Addresses in their one spelling; `phone` is E.164 digits without the plus."""

    phone: str | None = field(name="p", default=None)
    email: str | None = field(name="e", default=None)
    push: tuple[Device, ...] = field(name="d", default=())

    def has(self, kind: AddressKind) -> bool:
        return bool(getattr(self, kind))

    def one(self, kind: AddressKind) -> str:
        """The one address of a kind as providers are given it; empty where there is none, or where
        there may be several."""
        if kind == "phone":
            return f"+{self.phone}" if self.phone is not None else ""
        return (self.email or "") if kind == "email" else ""

    def several(self, kind: AddressKind) -> tuple[Device, ...]:
        """Those of a kind of which there may be several."""
        return self.push if kind == "push" else ()

    @property
    def device_kinds(self) -> set[str]:
        """Of which kinds there are devices."""
        return {str(type(device).__struct_config__.tag) for device in self.push}

    @property
    def prefix_digits(self) -> str:
        """What price prefixes are compared with."""
        return self.phone or ""

    @property
    def first(self) -> str:
        """The address as it stands in opt-outs, the phone before the rest."""
        return self.phone or self.email or ""

    @property
    def contacts(self) -> list[str]:
        """Each address by which somebody can opt out, as it stands in opt-outs."""
        if self.email is None:
            return [] if self.phone is None else [self.phone]
        return [self.email] if self.phone is None else [self.phone, self.email]

    @property
    def singles(self) -> list[Addresses]:
        """Each address by which somebody can opt out, alone."""
        phone = [Addresses(phone=self.phone)] if self.phone is not None else []
        return phone + ([Addresses(email=self.email)] if self.email is not None else [])

    def named(self) -> dict[str, str]:
        """The fields of a `OneAddress`."""
        if self.phone is not None:
            return {"phone": "+" + self.phone}
        return {"email": self.email} if self.email is not None else {}

    def identities(self, user: str | None) -> list[str]:
        """What the person is recognised by: phone, e-mail, the caller's id, in this order, as
        "p:79161234567"."""
        known = [] if self.phone is None else ["p:" + self.phone]
        if self.email is not None:
            known.append("e:" + self.email)
        if user is not None:
            known.append("u:" + user)
        return known

    def first_identity(self, user: str | None) -> str:
        """The first of the identities; empty without any."""
        if self.phone is not None:
            return "p:" + self.phone
        if self.email is not None:
            return "e:" + self.email
        return "" if user is None else "u:" + user

    def home(self, user: str | None) -> str:
        """The identity whose shard the message lives in; without any, its first device's."""
        if self.phone is not None:
            return self.phone
        if self.email is not None or user is not None:
            return self.email or user or ""
        first = self.push[0]
        return first.token if isinstance(first, FcmAddress) else first.subscription.endpoint

    def shown(self) -> str | Recipient | None:
        """As the API shows it: a phone alone as a text; None where all were erased."""
        if self == NOBODY:
            return None
        recipient = self.recipient
        if self.phone is not None and self.email is None and not self.push:
            return recipient.phone
        return recipient

    @property
    def recipient(self) -> Recipient:
        """Each under the name of its kind, as the API shows it."""
        phone = f"+{self.phone}" if self.phone is not None else None
        return Recipient(phone, self.email, list(self.push) or None)

    def without(self, identity: str) -> Addresses:
        """The same but for one phone or e-mail address, given as an identity."""
        return Addresses(
            None if identity == f"p:{self.phone}" else self.phone,
            None if identity == f"e:{self.email}" else self.email,
            self.push,
        )

    def without_device(self, device: Device) -> Addresses:
        return replace(self, push=tuple(each for each in self.push if each != device))

    def changed(self, said: Addresses, kinds: Collection[str]) -> Addresses:
        """Those of these kinds as `said`, the others as they are."""
        return replace(self, **{kind: getattr(said, kind) for kind in kinds})

    def filled(self, more: Addresses) -> Addresses:
        """With the kinds that are missing from `more`."""
        return Addresses(self.phone or more.phone, self.email or more.email, self.push or more.push)


NOBODY = Addresses()
KINDS: tuple[AddressKind, ...] = get_args(AddressKind)


class OneAddress(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The address of an answer that is about one: under the name of its kind."""

    phone: Annotated[str, msgspec.Meta(description="E.164.")] | msgspec.UnsetType = msgspec.UNSET
    email: Annotated[str, msgspec.Meta(description="In its one spelling.")] | msgspec.UnsetType = (
        msgspec.UNSET
    )


class SoughtAddresses(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The addresses by which somebody is looked for."""

    phone: Annotated[str, msgspec.Meta(description=PHONE_RULE)] | None = None
    email: Annotated[str, msgspec.Meta(description=MAILBOX_RULE)] | None = None

    def read(self) -> Addresses | list[AddressFault]:
        """In their one spelling; a list holds every fault."""
        if self.phone is None and self.email is None:
            return NOBODY
        found = read(Recipient(self.phone, self.email))
        return found.addresses if isinstance(found, Destination) else found


class AddressFault(msgspec.Struct, frozen=True):
    """What is wrong with one address: where, below `to`, and a sentence."""

    pointer: str
    detail: str


class Destination(msgspec.Struct, frozen=True, gc=False):
    """The addresses of a request, and the country and tariff of its phone."""

    addresses: Addresses
    country: str = NO_COUNTRY
    tariff: Tariff = ""


def person_id(user: str | None, app: str) -> str | None:
    """A caller's id of a person as an identity; `app` is whose numbering it is, empty where all
    apps have one. No name holds a control character, so that the two never meet."""
    return user if user is None or not app else f"{app}\x1f{user}"


def user_of(id_: str) -> str:
    """The caller's id in what `person_id` gave."""
    return id_.rpartition("\x1f")[2]


def one_identity(kind: AddressKind, address: str) -> str:
    """The identity that an address in its one spelling is."""
    return f"{kind[0]}:{address}"


def read(to: str | Recipient) -> Destination | list[AddressFault]:
    """Reads `to`; a list holds every fault."""
    if isinstance(to, str):
        try:
            phone = phones.parse(to)
        except PhoneError as error:
            return [AddressFault("", str(error))]
        return Destination(Addresses(phone.digits), phone.country, phone.tariff)
    faults: list[AddressFault] = []
    mailbox: str | None = None
    found: Phone | None = None
    if to.phone is not None:
        try:
            found = phones.parse(to.phone)
        except PhoneError as error:
            faults.append(AddressFault("/phone", str(error)))
    if to.email is not None:
        mailbox = mailbox_of(to.email)
        if mailbox is None:
            faults.append(AddressFault("/email", MAILBOX_RULE))
    if to.phone is None and to.email is None and not to.push:
        faults.append(AddressFault("", TO_RULE))
    if faults:
        return faults
    push = tuple(map(_as_kept, to.push or ()))
    if found is None:
        return Destination(Addresses(None, mailbox, push))
    return Destination(Addresses(found.digits, mailbox, push), found.country, found.tariff)


def _as_kept(device: Device) -> Device:
    """Without the end of a subscription, which changes while the subscription is one and the
    same: when it is over the push service says so."""
    if isinstance(device, WebPushAddress) and device.subscription.expiration_time is not None:
        return replace(device, subscription=replace(device.subscription, expiration_time=None))
    return device


def read_one(text: str) -> Destination | list[AddressFault]:
    """Reads a phone number or an e-mail address."""
    return read(Recipient(email=text) if "@" in text else text)


def named_mailbox_of(text: str) -> str | None:
    """The address, in its one spelling, of `Shop <news@shop.example>` or of an address alone; None:
    it cannot be one. Nothing of it is encoded as headers are."""
    if "=?" in text:
        return None
    if not text.endswith(">"):
        return mailbox_of(text)
    name, opened, address = text[:-1].rpartition("<")
    return mailbox_of(address.strip()) if opened and name.isprintable() else None


def mailbox_of(text: str) -> str | None:
    """The one spelling of an e-mail address: NFC, lower case, its domain in IDNA's ASCII form.

    None: it cannot be one."""
    if len(text) > SPELLED_CHARS_MAX:
        return None
    local, at, domain = unicodedata.normalize("NFC", text).lower().rpartition("@")
    if not at or _local(local) is None or len(local.encode()) > LOCAL_BYTES_MAX:
        return None
    try:
        ascii_domain = idna.encode(domain, uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        return None
    labels = ascii_domain.split(".")
    if len(labels) < 2 or labels[-1].isdigit() or not all(_label(label) for label in labels):
        return None
    address = f"{local}@{ascii_domain}"
    return address if len(address) <= EMAIL_CHARS_MAX else None
