"""`POST /v1/callbacks/{provider}`: a provider's receipts.

Owns the proof of who is calling, the reading by the provider's adapter, and the batching of many
callbacks into few transactions. It must not know what a receipt does to a message. The answer is
sent once everything is durable, applied or parked. A receipt that cannot be read or applied is a
fault that is counted and logged; it never fails its neighbours, and never the callback, because the
provider would only send the same again. Redis away is a 503: providers retry.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from urllib.parse import parse_qsl, quote

import msgspec
import structlog

from gateway.failpoints import point
from gateway.ingress.api.results import refusal_of
from gateway.ingress.batcher import Batcher
from gateway.ingress.http.asgi import (
    Begin,
    Fail,
    Field,
    Receive,
    Reply,
    Scope,
    Send,
    header,
    read_body,
    respond,
    to_json,
)
from gateway.ingress.http.problems import refuse
from gateway.ingress.metrics import Metrics
from gateway.redis.errors import StoreError
from gateway.store.base import BATCH_MAX
from gateway.store.receipts import take_receipts
from gateway.store.store import Store
from gateway.store.transaction import ConflictError
from providers.contract import Adapter, Receipt, Receipts
from providers.http.callback_proofs import CallbackAuth, verify

PREFIX = "/v1/callbacks/"
QUERY_FIELDS_MAX = 64

_BASIC_CHALLENGE = (b"www-authenticate", b'Basic realm="kaskad callbacks", charset="UTF-8"')
_log = structlog.get_logger("ingress")


class CallbackResult(msgspec.Struct, frozen=True):
    """What became of a callback's receipts: `applied` to messages, `parked` until their message is
    known, `faults` that could not be read."""

    applied: int
    parked: int
    faults: int


class CallbackEndpoint:
    """Answers every provider's callbacks."""

    def __init__(
        self,
        store: Store,
        adapters: Mapping[str, Adapter],
        auths: Mapping[str, CallbackAuth],
        metrics: Metrics,
        now_ms: Callable[[], int],
        body_bytes_max: int,
    ) -> None:
        self._store = store
        self._adapters = adapters
        self._auths = auths
        self._metrics = metrics
        self._now_ms = now_ms
        self._body_bytes_max = body_bytes_max
        self._providers = list(adapters)
        self._queries = {
            name: f"token={quote(auth.token, safe='')}".encode()
            for name, auth in auths.items()
            if auth.token is not None
        }
        # One queue a provider, in the place of shards: a receipt's shard is found by the store.
        self.batcher: Batcher[Receipt, bool] = Batcher(
            len(self._providers), self._take, batch_max=BATCH_MAX
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"][len(PREFIX) :]
        adapter, auth = self._adapters.get(name), self._auths.get(name)
        if adapter is None or auth is None:
            raise refuse("not-found", "No provider of this name is configured.")
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        query = _query(scope["query_string"])
        proven = verify(auth, headers, query, b"")
        if not proven and auth.hmac is None:
            raise _unproven(auth)
        body = await read_body(scope, receive, self._body_bytes_max)
        if auth.hmac is not None and not verify(auth, headers, query, body):
            raise _unproven(auth)
        content_type = (header(scope, b"content-type") or b"").decode("latin-1")
        try:
            read = adapter.receipts(body, content_type)
        except ValueError as error:
            _log.warning("callback_unreadable", provider=name, reason=str(error))
            self._metrics.receipts.labels(name, "unreadable").inc()
            raise refuse("malformed", str(error)) from None
        results = await self.batcher.ask_all(self._providers.index(name), read.receipts)
        await respond(send, 200, to_json(self._taken(name, read.faults, results)))

    def short_way(self, target: bytes, headers: Sequence[Field], body: bytes) -> Begin | None:
        """Good receipts of a proven caller, whole: what is left to do. None for all else; nothing
        has changed then. Raises ValueError for what cannot be read."""
        path, _, query = target.partition(b"?")
        name = path[len(PREFIX) :].decode("latin-1")
        adapter, auth = self._adapters.get(name), self._auths.get(name)
        fields = dict(reversed(headers))  # the first of a name stands
        if adapter is None or auth is None or b"content-encoding" in fields:
            return None
        if len(body) > self._body_bytes_max:
            return None
        usual = self._queries.get(name)  # the query as we wrote it into the callback's address
        proven = usual is not None and hmac.compare_digest(usual, query)
        if not proven and not _is_proven(auth, headers, query, body):
            return None
        content_type = fields.get(b"content-type", b"").decode("latin-1")
        return partial(self._begin, name, adapter.receipts(body, content_type))

    def _begin(self, name: str, read: Receipts, reply: Reply, fail: Fail) -> None:
        def done(results: list[bool | Exception]) -> None:
            try:
                result = self._taken(name, read.faults, results)
            except Exception as error:
                fail(error)
            else:
                reply(200, to_json(result))

        self.batcher.submit_all(self._providers.index(name), read.receipts, done)

    def _taken(
        self, name: str, unread: Sequence[str], results: Sequence[bool | Exception]
    ) -> CallbackResult:
        """What became of one callback, durable by now: counted and logged.

        Raises StoreError when a receipt of it is not: repeating the others does no harm.
        """
        applied = parked = 0
        faults = len(unread)
        for result in results:
            if isinstance(result, StoreError | ConflictError):
                raise result  # not durable, so not 200: the provider will repeat it
            if isinstance(result, Exception):
                refusal_of(result)  # logs it with an incident
                faults += 1
            elif result:
                applied += 1
            else:
                parked += 1
        for what, number in (("applied", applied), ("parked", parked), ("fault", faults)):
            if number:
                self._metrics.took(name, what, number)
        point("settled")
        for fault in unread:
            _log.warning("receipt_unreadable", provider=name, reason=fault)
        _log.debug("callback", provider=name, applied=applied, parked=parked, faults=faults)
        return CallbackResult(applied, parked, faults)

    async def _take(self, provider: int, receipts: Sequence[Receipt]) -> Sequence[bool]:
        """Whether each receipt was applied; parked otherwise."""
        point("receipt_read")
        name = self._providers[provider]
        taken = await take_receipts(self._store, name, receipts, self._now_ms())
        parked = {id(receipt) for receipt in taken.unmatched}
        return [id(receipt) not in parked for receipt in receipts]


def _is_proven(auth: CallbackAuth, headers: Sequence[Field], query: bytes, body: bytes) -> bool:
    texts = {k.decode("latin-1"): v.decode("latin-1") for k, v in headers}
    return verify(auth, texts, _query(query), body)


def _query(raw: bytes) -> dict[str, str]:
    text = raw.decode("latin-1")
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX))
    except ValueError:
        return {}


def _unproven(auth: CallbackAuth) -> Exception:
    challenge = (_BASIC_CHALLENGE,) if auth.basic is not None else ()
    return refuse(
        "unauthorized", "The callback does not carry the proof that is configured.", *challenge
    )
