"""Whom a provider's code speaks of: what the tables of codes are made of."""

from __future__ import annotations

import msgspec

from providers.contract import About, Fault, Refused


class Reason(msgspec.Struct, frozen=True):
    """As the fields of `Refused` and of its `Fault`: see there."""

    about: About
    permanent: bool = True
    unreachable: bool = False

    def refused(self, ref: str, code: str, name: str) -> Refused:
        """The outcome of a message that is refused for it."""
        fault = Fault(code, name, self.permanent)
        return Refused(ref, fault, about=self.about, unreachable=self.unreachable)


PERSON = Reason("person")
NOBODY = Reason("person", unreachable=True)
LATER = Reason("person", permanent=False)
MESSAGE = Reason("message")
ACCOUNT = Reason("account")
