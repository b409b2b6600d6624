"""`GET` and `DELETE /v1/users/{user}`: what is kept of a person, and how it is forgotten.

An app sees and erases what it sent itself; with the scope `manage` it erases the person, for every
app. A person is the one that the app's `user` id leads to. Nobody of whom nothing is kept is a 404,
so erasing again answers that there is nothing left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import msgspec

from gateway.core.addresses import Addresses, person_id, user_of
from gateway.core.people import persons as rules
from gateway.core.people import reach
from gateway.core.records.message import Message
from gateway.core.records.person import DedupeClaim, Person
from gateway.core.records.user import StoredUser
from gateway.core.texts import name_of
from gateway.core.views.message import MessageView, view_now
from gateway.core.views.words import Time, rfc3339
from gateway.ingress.api.people import channels_view
from gateway.ingress.api.people.channels_view import ChannelView
from gateway.ingress.api.people.optouts import OptOutView
from gateway.ingress.api.people.optouts import view_of as opt_out_view
from gateway.ingress.api.people.stored_users import StoredUserView, view_of
from gateway.ingress.api.searches import Searches
from gateway.ingress.archived import ArchiveReader
from gateway.ingress.http.asgi import to_json
from gateway.ingress.http.problems import refuse
from gateway.ingress.http.request import Request
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.messages import reads
from gateway.store.messages.message_search import Sought, search
from gateway.store.people import opt_outs, persons
from gateway.store.people.persons import FoundPersons
from gateway.store.store import Store

MESSAGES_SHOWN_MAX = 1_000
SEARCHES_MAX = 2  # at once in a worker: each reads the whole index of messages


class ClaimView(msgspec.Struct, frozen=True):
    """A campaign that reached the person, or is on its way: nothing more of it is sent until
    `until`; null while the message is under way."""

    campaign: str
    message: str
    until: Time | None


class CapView(msgspec.Struct, frozen=True):
    """A frequency cap: `count` messages of any app count against it, and where that is full it is
    free at `retry_at`."""

    name: str
    limit: int
    window: str
    count: int
    retry_at: Time | None


class UserView(StoredUserView, frozen=True, omit_defaults=False, kw_only=True):
    """What is kept of an app's `user`, what it was sent lately, newest first (at most 1,000), and
    what is held for it."""

    messages: list[MessageView]
    claims: list[ClaimView]
    caps: list[CapView]
    optouts: list[OptOutView]
    channels: dict[str, ChannelView]


class ErasedView(msgspec.Struct, frozen=True):
    """How many messages were erased, and how many of them were cancelled."""

    messages: int
    cancelled: int


class UserEndpoints:
    """Answers for persons, by the app's own id. `now_ms` is the edge's clock."""

    def __init__(self, store: Store, archived: ArchiveReader, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._archived = archived
        self._now_ms = now_ms
        self._searches = Searches(SEARCHES_MAX, "persons")

    async def get(self, request: Request) -> None:
        user, found, messages = await self._find(request)
        kept, app = found.users.get(self._id_of(request, user)), request.principal.app
        await request.respond(200, to_json(await self._view(app, user, found, kept, messages)))

    async def person(self, identity: str, app: str) -> UserView | None:
        """Who has this identity, with the messages of every app, for operators; rates of reactions
        are those of `app`. None: nothing is kept of such a person. Raises Refusal where too many
        are looked for."""
        with self._searches.one():
            found = await self._everything_of(identity)
        if not found.anything:
            return None
        messages = _newest_first(found.messages.values())
        stored = next(iter(found.users.items()), None)
        named = next((m.user for m in messages if m.user), "")
        user, kept = (named, None) if stored is None else (user_of(stored[0]), stored[1])
        return await self._view(app, user, found, kept, messages)

    async def _view(
        self,
        app: str,
        user: str,
        found: FoundPersons,
        kept: StoredUser | None,
        messages: Sequence[Message],
    ) -> UserView:
        """The person as `app` sees it, with these messages."""
        store, now_ms = self._store, self._now_ms()
        people = await persons.holders(store, found, now_ms)
        elsewhere = found.others | found.archived
        shown = {m.id for m in messages} | {id_ for id_, own in elsewhere.items() if own == app}
        return UserView(
            **msgspec.structs.asdict(view_of(user, kept or StoredUser("", 0))),
            messages=[view_now(m, store.policy, now_ms) for m in messages[:MESSAGES_SHOWN_MAX]],
            claims=list(_claims(await persons.claims(store, found), shown)),
            caps=[
                CapView(
                    state.cap.name,
                    state.cap.limit,
                    state.cap.window,
                    state.count,
                    rfc3339(state.retry_at_ms) if state.count >= state.cap.limit else None,
                )
                for state in rules.cap_states(people, store.policy, now_ms)
            ],
            optouts=await self._opt_outs(app, messages, kept),
            channels=await self._channels(people, messages, kept, app, now_ms),
        )

    async def _channels(
        self,
        people: Sequence[Person],
        messages: Sequence[Message],
        kept: StoredUser | None,
        app: str,
        now_ms: int,
    ) -> dict[str, ChannelView]:
        """For the addresses that are stored, and else those of the newest messages."""
        store = self._store
        await store.tallies.refresh(store.redis, store.policy, store.shards, now_ms)
        stored = kept.addresses if kept is not None else Addresses()
        addresses = channels_view.addresses_of(stored, messages)
        rates = store.tallies.known.rates
        known = reach.states(people, addresses, app, store.policy, rates, now_ms)
        return {name: channels_view.view_of(state) for name, state in known.items()}

    async def delete(self, request: Request) -> None:
        _, found, _ = await self._find(request)
        principal = request.principal
        everything = "manage" in principal.scopes
        app = None if everything else principal.app
        told = await persons.erase(self._store, found, self._now_ms(), app)
        detail = "person" if everything else "own"
        deed = Deed(self._now_ms(), principal.named, "person.erase", detail=detail)
        await audit.note(self._store.redis, deed)
        await request.respond(200, to_json(ErasedView(told.messages, told.cancelled)))

    async def _find(self, request: Request) -> tuple[str, FoundPersons, list[Message]]:
        """The person, whom the app has stored or sent something, or may look after, and the app's
        own messages. Raises Refusal."""
        user = name_of(request.parameters["user"])
        id_ = self._id_of(request, user)
        app, manages = request.principal.app, "manage" in request.principal.scopes
        with self._searches.one():
            found = await self._everything_of(f"u:{id_}")
            own = self._own(request, found)
            known = id_ in found.users or own or app in found.archived.values()
            if not known and not (found.anything and manages):
                sought = Sought(None if manages else app, (f"u:{id_}",))
                if not await self._is_archived(sought):
                    raise refuse("not-found", "Nothing is kept of this user.")
        return user, found, own

    async def _everything_of(self, identity: str) -> FoundPersons:
        """With what is held of the person by messages that are in the archive alone."""
        found = await persons.find(self._store, identity, self._now_ms())
        held = await persons.holding(self._store, found)
        gone = held.difference(found.messages, found.others)
        for id_, record in (await self._archived.records(gone)).items():
            message = reads.readable(self._store, id_, record)
            if message is not None:
                found.archived[id_] = message.app
        return found

    async def _is_archived(self, sought: Sought) -> bool:
        """Whether such a message is found, in the archive as well."""
        if not await self._archived.holds_any():
            return False
        page = await search(self._store, sought, 1, archived=self._archived)
        return bool(page.messages)

    def _id_of(self, request: Request, user: str) -> str:
        return f"{person_id(user, self._store.policy.numbering_of(request.principal.app))}"

    def _own(self, request: Request, found: FoundPersons) -> list[Message]:
        """The app's own messages, the newest first."""
        return _newest_first(m for m in found.messages.values() if m.app == request.principal.app)

    async def _opt_outs(
        self, app: str, messages: Sequence[Message], kept: StoredUser | None
    ) -> list[OptOutView]:
        """Of the addresses that are stored, or that the app itself sent to."""
        store = self._store
        known = [m.addresses for m in messages] + ([] if kept is None else [kept.addresses])
        asked = {one.first: one for each in known for one in each.singles}
        views = []
        for address, one in sorted(asked.items(), key=lambda item: item[0]):
            opted_out = await opt_outs.find(store.redis, store.shards, address)
            if opted_out:
                views.append(opt_out_view(one, opted_out, app))
        return views


def _newest_first(messages: Iterable[Message]) -> list[Message]:
    return sorted(messages, key=lambda m: (m.created_ms, m.id), reverse=True)


def _claims(claims: dict[str, DedupeClaim], own: Collection[str]) -> Iterator[ClaimView]:
    """Those of the app's own messages."""
    for campaign, claim in sorted(claims.items()):
        if claim.message in own:
            until = rfc3339(claim.until_ms) if claim.until_ms else None
            yield ClaimView(campaign, claim.message, until)
