"""A request on its way to a decision, and why it could not be decided yet."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.core.records.person import Person
from gateway.core.records.request import MessageRequest


class Ask(msgspec.Struct, frozen=True, gc=False):
    """A request, the identities it names, and the one under which it is to be decided.

    `found` are aliases that lead there, whether the home lists them yet or not; `listed` are those
    it listed when they were found; `apart` are homes of the same request that were not joined to
    it. `opened`: its idempotency key is held for it, in whatever shard, and its message may have
    been made already. `full`: budgets that have no more than this process has leased."""

    request: MessageRequest
    identities: list[str]
    home: str
    found: Mapping[str, Person] = {}
    listed: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    opened: bool = False
    full: frozenset[str] = frozenset()


def ask_of(request: MessageRequest) -> Ask:
    """A request under the first identity it names; empty where it names none."""
    identities = request.identities
    return Ask(request, identities, identities[0] if identities else "")


class Undecided(msgspec.Struct, frozen=True):
    """Why a request could not be decided: its person's home is (or leads to) `home`; its
    idempotency key is held elsewhere; it `needs` so much of budgets to be leased; or else, it names
    somebody whom the home does not list."""

    home: str = ""
    keyed: bool = False
    needs: Mapping[str, int] = {}
