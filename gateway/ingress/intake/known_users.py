"""What a request leaves out is taken from the stored user that it names, and where a category needs
an opt-in it is looked for.

A batch reads the users that it needs in one command a shard. While no user was ever stored, a
request that has addresses of its own costs nothing: what this process stores it knows, what others
do is asked anew ten times a second, and a request without addresses always reads. Raises
RedisUnavailable, and for a record that cannot be read NewerRecordError and UnreadableRecordError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from gateway.core import addresses
from gateway.core.addresses import NOBODY, Destination
from gateway.core.records.request import Answer, MessageRequest
from gateway.core.records.user import StoredUser
from gateway.ingress.api.messages.app_bounds import destination_faults
from gateway.store.people import users
from gateway.store.people.consent import lacking_for
from gateway.store.store import Store

LOOK_EVERY_MS = 100


class RefusedRequest(NamedTuple):
    """A request that may go nowhere: its place among those that were given, and its answer."""

    place: int
    answer: Answer


class KnownUsers:
    """`now_ms` is the edge's clock."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms
        self._looked_ms = 0

    async def complete(
        self, requests: Sequence[MessageRequest]
    ) -> tuple[Sequence[MessageRequest], Sequence[RefusedRequest]]:
        """The requests with the addresses they lack, and with the consent that is lacking; and
        those that are left out, because the app may send to none of the addresses."""
        named = [r for r in requests if r.user is not None]
        refused: list[RefusedRequest] = []
        if named:
            requests, refused = await self._with_addresses(requests, named)
        if not self._store.policy.consent:
            return requests, refused
        lacking = await lacking_for(self._store, requests)
        return [
            replace(each, lacks_consent=lacking[each.id]) if lacking.get(each.id) else each
            for each in requests
        ], refused

    async def _with_addresses(
        self, requests: Sequence[MessageRequest], named: Sequence[MessageRequest]
    ) -> tuple[Sequence[MessageRequest], list[RefusedRequest]]:
        await self._look()
        if not self._store.any_users:
            named = [r for r in named if r.addresses == NOBODY]
            if not named:
                return requests, []
        ids = {r.id: f"{r.named_user}" for r in named}
        found = await users.read(self._store, ids.values())
        whole: list[MessageRequest] = []
        refused: list[RefusedRequest] = []
        for place, request in enumerate(requests):
            kept = found.get(ids.get(request.id, ""))
            filled = request if kept is None else self._filled(request, kept)
            if isinstance(filled, Answer):
                refused.append(RefusedRequest(place, filled))
            else:
                whole.append(filled)
        return whole, refused

    async def _look(self) -> None:
        if not self._store.any_users and self._now_ms() - self._looked_ms >= LOOK_EVERY_MS:
            self._store.any_users = await users.any_stored(self._store.redis)
            self._looked_ms = self._now_ms()

    def _filled(self, request: MessageRequest, kept: StoredUser) -> MessageRequest | Answer:
        more, country = kept.addresses, request.country
        if request.addresses.phone is None and more.phone is not None:
            read = addresses.read("+" + more.phone)
            assert isinstance(read, Destination), "it was read when it was stored"
            rule = self._store.policy.app(request.app)
            fault = next(destination_faults(read, rule, "/to"), None)
            if fault is None:
                country = read.country
            else:
                more = replace(more, phone=None)
                if request.addresses == NOBODY and more == NOBODY:
                    return Answer("rejected", pointer=fault.pointer, detail=fault.detail)
        filled, tz = request.addresses.filled(more), request.tz or kept.tz
        if filled == request.addresses and tz == request.tz:
            return request
        whole = replace(request, addresses=filled, country=country, tz=tz)
        shard = self._store.shard_of_home(whole.home)
        if shard == self._store.shard_of_message(request.id):
            return whole
        return replace(whole, id=self._store.new_id_in(shard, self._now_ms()))
