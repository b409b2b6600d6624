"""Whom a provider's code speaks of: what the tables of codes are made of."""

from __future__ import annotations

import msgspec

from providers.contract import About, Fault, Refused


class Reason(msgspec.Struct, frozen=True):
    """As the fields of `Refused` and of its `Fault`: see there."""

    about: About
    permanent: bool = True
    unreachable: bool = False
    opted_out: bool = False

    def refused(self, ref: str, code: str, name: str) -> Refused:
        """The outcome of a message that is refused for it."""
        fault = Fault(code, name, self.permanent)
        about, unreachable = self.about, self.unreachable
        return Refused(ref, fault, about=about, unreachable=unreachable, opted_out=self.opted_out)


PERSON = Reason("person")
LEFT = Reason("person", opted_out=True)
NOBODY = Reason("person", unreachable=True)
LATER = Reason("person", permanent=False)
MESSAGE = Reason("message")
ACCOUNT = Reason("account")
