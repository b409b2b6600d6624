"""`POST /v1/callbacks/{provider}`: a provider's receipts, and what people wrote back.

The caller proves itself as the provider's configuration says (an HMAC is computed while the body
arrives), and may send what its provider sends in one callback at most. The provider's adapter reads
the body, and the receipts of many callbacks share few transactions. The answer is sent once
everything is durable, applied or parked. A receipt that cannot be read or applied is
a fault that is counted and logged; it never fails its neighbours, and never the callback, because
the provider would only send the same again. Redis unavailable is a 503: providers retry.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qsl, quote

import msgspec
import structlog
from msgspec.structs import replace

from gateway.failpoints import failpoint
from gateway.ingress.api.callbacks.raw_receipts import with_raw
from gateway.ingress.api.callbacks.refused_callbacks import RefusedCallbacks
from gateway.ingress.api.people.inbound import InboundEndpoints
from gateway.ingress.api.results import refusal_of
from gateway.ingress.http.asgi import to_json
from gateway.ingress.http.problems import refuse
from gateway.ingress.http.request import Request
from gateway.ingress.intake.batcher import Batcher
from gateway.ingress.metrics import IngressMetrics
from gateway.ingress.outside import Outside
from gateway.redis.errors import RedisError
from gateway.store.base import BATCH_MAX
from gateway.store.messages.receipts import take_receipts
from gateway.store.providers.rejections import RejectionWatch
from gateway.store.store import Store
from gateway.store.transaction import ConflictError
from providers.contract import Receipt
from providers.http.adapter import CallbackReader
from providers.http.callback_proofs import (
    BodyProof,
    CallbackAuth,
    Signature,
    carries_proof,
    proven_by_head,
)

QUERY_FIELDS_MAX = 64
FAULTS_LOGGED_MAX = 20  # of one callback, each with their number

_BASIC_CHALLENGE = (b"www-authenticate", b'Basic realm="kaskad callbacks", charset="UTF-8"')
_log = structlog.get_logger("ingress")


class CallbackResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """A callback's receipts: `applied` to messages, `parked` until their message is
    known, `faults` that could not be read; and `replies` of people that were
    new, where there are such."""

    applied: int
    parked: int
    faults: int
    replies: int = 0


class Greeting(msgspec.Struct, frozen=True):
    """Nothing but that somebody is there."""


class ReceiptSetAside(Exception):
    """A receipt is in quarantine."""


class CallbackEndpoint:
    """Answers every provider's callbacks."""

    def __init__(
        self,
        store: Store,
        readers: Mapping[str, CallbackReader],
        auths: Mapping[str, CallbackAuth],
        inbound: InboundEndpoints,
        metrics: IngressMetrics,
        now_ms: Callable[[], int],
        body_bytes_max: int,
        outside: Outside | None = None,
    ) -> None:
        self._store = store
        self._readers = readers
        self._inbound = inbound
        self._outside = outside or Outside()
        self._metrics = metrics
        self._now_ms = now_ms
        self._refused = RefusedCallbacks(metrics, now_ms)
        self._body_bytes_max = body_bytes_max
        former = store.policy.former
        self._watch = RejectionWatch(store.redis, now_ms, metrics.count_pause, former)
        self._providers = list(readers)
        self.take_over(auths)
        # One queue a provider, in the place of shards: a receipt's shard is found by the store.
        self.batcher: Batcher[Receipt, bool] = Batcher(
            len(self._providers), self._apply, batch_max=BATCH_MAX
        )

    def take_over(self, auths: Mapping[str, CallbackAuth]) -> None:
        """What callbacks must carry from the next one on."""
        self._auths = auths
        self._queries = {
            name: f"token={quote(auth.token, safe='')}".encode()
            for name, auth in auths.items()
            if auth.token is not None
        }

    async def take(self, request: Request) -> None:
        name = self._store.policy.present(request.parameters["provider"])
        reader, auth = self._readers.get(name), self._auths.get(name)
        if reader is None or auth is None:
            raise refuse("not-found", "No provider of this name is configured.")
        limit = min(self._body_bytes_max, reader.callback_bytes_max)
        body = await self._proven_body(name, auth, request, limit)
        content_type = (request.header(b"content-type") or b"").decode("latin-1")
        try:
            read = reader.receipts(body, content_type)
        except ValueError as error:
            _log.warning("callback_unreadable", provider=name, reason=str(error))
            self._metrics.receipts.labels(name, "unreadable").inc()
            raise refuse("malformed", str(error)) from None
        receipts = read.receipts
        if self._store.retention.raw_receipts_ms:
            receipts = with_raw(receipts, body)
        results = await self.batcher.ask_all(self._providers.index(name), receipts)
        result = self._result_of(name, read.faults, results)
        if read.confirm_url is not None:
            await self._outside.get(read.confirm_url)
        if read.replies:
            taken = await self._inbound.take(name, reader.channel, read.replies)
            self._metrics.count_receipts(name, "reply", taken)
            result = replace(result, replies=taken)
        request.changed_something = result.applied + result.parked + result.replies > 0
        await request.respond(200, to_json(result))

    async def _proven_body(
        self, name: str, auth: CallbackAuth, request: Request, limit: int
    ) -> bytes:
        """The body of a callback that carries one of the proofs. Raises Refusal, noted, else."""
        if auth.signature is not None:
            return await self._signed_body(name, auth, auth.signature, request, limit)
        usual = self._queries.get(name)  # the query as we wrote it into the callback's address
        if usual is not None and hmac.compare_digest(usual, request.query):
            return await request.body(limit)
        headers = _headers(request)
        query = _query(request.query)
        if proven_by_head(auth, headers, query):
            return await request.body(limit)
        proof = BodyProof(auth, headers)
        if proof.carried:  # else nothing that the body says could help
            body = await request.body(limit, proof.update)
            if proof.holds():
                return body
        carried = carries_proof(auth, headers, query)
        self._refused.note(name, "wrong_proof" if carried else "no_proof", request.peer)
        raise _unproven(auth)

    async def _signed_body(
        self, name: str, auth: CallbackAuth, signature: Signature, request: Request, limit: int
    ) -> bytes:
        """The body of a callback that its provider signed and that carries what else is asked."""
        headers, query = _headers(request), _query(request.query)
        proof = BodyProof(auth, headers)
        proven = auth.only_signed or proven_by_head(auth, headers, query)
        if not (proven or proof.carried):
            carried = carries_proof(auth, headers, query)
            self._refused.note(name, "wrong_proof" if carried else "no_proof", request.peer)
            raise _unproven(auth)
        body = await request.body(limit, proof.update)
        if not (proven or proof.holds()):
            self._refused.note(name, "wrong_proof", request.peer)
            raise _unproven(auth)
        url = signature.certificate_url(body)
        certificate = await self._outside.kept(url) if url is not None else b""
        if not signature.holds(headers, body, certificate):
            self._refused.note(name, "wrong_proof", request.peer)
            raise _unproven(auth)
        return body

    async def greet(self, request: Request) -> None:
        """Some providers ask for the address before they call it."""
        name = self._store.policy.present(request.parameters["provider"])
        auth = self._auths.get(name)
        if name not in self._readers or auth is None:
            raise refuse("not-found", "No provider of this name is configured.")
        if not auth.greeted:
            raise refuse("method-not-allowed", "Use POST.", (b"allow", b"POST"))
        await request.respond(200, to_json(Greeting()))

    def _result_of(
        self, name: str, unread: Sequence[str], results: Sequence[bool | Exception]
    ) -> CallbackResult:
        """The result of one callback, durable by now; counts and logs it.

        Raises RedisError when a receipt of it is not: repeating the others does no harm.
        """
        applied = parked = 0
        faults = len(unread)
        for result in results:
            if isinstance(result, RedisError | ConflictError):
                raise result  # not durable, so not 200: the provider will repeat it
            if isinstance(result, Exception):
                refusal_of(result)  # logs it with an incident
                faults += 1
            elif result:
                applied += 1
            else:
                parked += 1
        if results:
            self._metrics.last_receipt.labels(name).set(self._now_ms() / 1000)
        for what, number in (("applied", applied), ("parked", parked), ("fault", faults)):
            if number:
                self._metrics.count_receipts(name, what, number)
        failpoint("settled")
        for fault in unread[:FAULTS_LOGGED_MAX]:
            _log.warning("receipt_unreadable", provider=name, reason=fault, n=len(unread))
        _log.debug("callback", provider=name, applied=applied, parked=parked, faults=faults)
        return CallbackResult(applied, parked, faults)

    async def _apply(
        self, provider: int, receipts: Sequence[Receipt]
    ) -> Sequence[bool | Exception]:
        """Whether each receipt was applied; parked otherwise, or set aside with an exception."""
        failpoint("receipt_read")
        name = self._providers[provider]
        taken = await take_receipts(self._store, name, receipts, self._now_ms())
        if taken.crowded_out:
            self._metrics.count_receipts(name, "dropped", taken.crowded_out)
        await self._watch.saw(name, receipts)
        ended: dict[int, bool | Exception] = dict.fromkeys(map(id, taken.unmatched), False)
        ended |= dict.fromkeys(
            map(id, taken.faulty), ReceiptSetAside("A receipt cannot be applied.")
        )
        return [ended.get(id(receipt), True) for receipt in receipts]


def _headers(request: Request) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}


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
