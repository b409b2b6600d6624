"""`PUT` and `PATCH /v1/users/{user}` and `POST /v1/users`: what an app keeps of a person.

Users are stored in batches, a shard at a time; a stream's lines are answered in order, each once it
is durable. What is wrong with a body is told with every fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import msgspec

from gateway.core.addresses import person_id
from gateway.core.records.user import StoredUser
from gateway.core.texts import name_of
from gateway.ingress.api.bodies.decoder import require_json
from gateway.ingress.api.bodies.names import name_fault
from gateway.ingress.api.bodies.stream import LineStream, PendingLine, Streams
from gateway.ingress.api.people.user_bodies import (
    UserBody,
    UserSettings,
    read_body,
    read_line,
    shown_consents,
)
from gateway.ingress.api.results import failure, refusal_of
from gateway.ingress.http.asgi import to_json
from gateway.ingress.http.problems import Problem, Refusal, RequestFault, invalid, refuse
from gateway.ingress.http.request import Request
from gateway.ingress.intake.batcher import Batcher, TakeResult
from gateway.settings.tables import Server
from gateway.store.base import BATCH_MAX
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.keys import shard_of
from gateway.store.people import users
from gateway.store.people.users import UserChange
from gateway.store.store import Store
from gateway.store.waiting import zones

BODY_BYTES_MAX = 64 * 1024


class StoredUserView(UserBody, frozen=True, omit_defaults=False, kw_only=True):
    """What is kept of a user."""

    user: str


class UserResult(msgspec.Struct, omit_defaults=True):
    """How one line was decided; a line at fault is answered as a message's is."""

    user: str
    outcome: Literal["stored"]
    line: int | msgspec.UnsetType = msgspec.UNSET
    error: Problem | msgspec.UnsetType = msgspec.UNSET


class StoredUserEndpoints:
    """Stores users. `now_ms` is the edge's clock."""

    def __init__(
        self, store: Store, streams: Streams, limits: Server, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._streams = streams
        self._limits = limits
        self._now_ms = now_ms
        self.batcher: Batcher[UserChange, StoredUser] = Batcher(
            store.shards, self._change, batch_max=BATCH_MAX
        )

    async def put(self, request: Request) -> None:
        said = await self._said(request)
        app, now_ms = request.principal.app, self._now_ms()
        await self._store_one(request, said, lambda _: said.put(app, now_ms))

    async def patch(self, request: Request) -> None:
        said = await self._said(request)
        app, now_ms = request.principal.app, self._now_ms()
        nobody = StoredUser(app, now_ms)
        await self._store_one(request, said, lambda kept: said.patch(kept or nobody, app, now_ms))

    async def import_(self, request: Request) -> None:
        if request.media_type != "application/x-ndjson":
            raise refuse("media-type", "Send application/x-ndjson, one user a line.")
        stream = UserStream(request, self, self._limits)
        await self._streams.answer(request, stream)
        await self._note(request, f"{stream.stored} users")

    def submit(self, app: str, said: UserSettings, done: TakeResult[StoredUser]) -> None:
        """Hands a user to the next batch. Raises QueueFull."""
        now_ms = self._now_ms()
        change = self.change_of(app, said, lambda _: said.put(app, now_ms))
        self.batcher.submit(shard_of(change.user, self._store.shards), change, done)

    def read_line(self, line: bytes) -> UserSettings | Problem:
        return read_line(line, self._now_ms())

    def change_of(
        self, app: str, said: UserSettings, after: Callable[[StoredUser | None], StoredUser]
    ) -> UserChange:
        scope = self._store.policy.numbering_of(app)
        return UserChange(f"{person_id(said.user, scope)}", scope, said.addresses, after)

    async def _said(self, request: Request) -> UserSettings:
        """What the body says. Raises Refusal."""
        require_json(request)
        user = name_of(request.parameters["user"])
        if detail := name_fault(user):
            raise Refusal(invalid([RequestFault("/user", detail)]))
        said = read_body(await request.body(BODY_BYTES_MAX), user, self._now_ms())
        if isinstance(said, Problem):
            raise Refusal(said)
        return said

    async def _store_one(
        self,
        request: Request,
        said: UserSettings,
        after: Callable[[StoredUser | None], StoredUser],
    ) -> None:
        change = self.change_of(request.principal.app, said, after)
        kept = await self.batcher.ask(shard_of(change.user, self._store.shards), change)
        await self._note(request, "1 user")
        await request.respond(200, to_json(view_of(said.user, kept)))

    async def _note(self, request: Request, detail: str) -> None:
        deed = Deed(self._now_ms(), request.principal.named, "user.store", detail=detail)
        await audit.note(self._store.redis, deed)

    async def _change(self, _shard: int, changes: Sequence[UserChange]) -> Sequence[StoredUser]:
        left = await users.change(self._store, changes, self._now_ms())
        kept = {each.user: after for each, after in zip(changes, left, strict=True)}
        if found := await zones.stored(self._store, kept):
            await self._store.apply(found, self._now_ms())
        return left


class UserStream(LineStream):
    """`POST /v1/users`: each line is a user. `stored` counts them."""

    def __init__(self, request: Request, endpoints: StoredUserEndpoints, limits: Server) -> None:
        super().__init__(request, limits)
        self._endpoints = endpoints
        self._app = request.principal.app
        self.stored = 0

    async def take_line(self, line: bytes) -> None:
        said = self._endpoints.read_line(line)
        if isinstance(said, Problem):
            self.answer_at_once(said)
            return
        pending = self.begin_line(len(line))
        done = partial(self._answer, pending, said.user)
        await self.offer(pending, lambda: self._endpoints.submit(self._app, said, done))

    def _answer(self, line: PendingLine, user: str, answer: StoredUser | Exception) -> None:
        if isinstance(answer, Exception):
            failed = failure(refusal_of(answer).problem)
            self.finish(line, failed, ends=failed.outcome == "error")
            return
        self.stored += 1
        self.finish(line, UserResult(user, "stored"))


def view_of(user: str, kept: StoredUser) -> StoredUserView:
    """What is kept of a user, as the app gave it."""
    return StoredUserView(
        **msgspec.structs.asdict(kept.addresses.recipient),
        user=user,
        tz=kept.tz,
        locale=kept.locale,
        consent=shown_consents(kept),
    )
