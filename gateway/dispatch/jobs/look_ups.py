"""Asks a provider what became of steps whose answer was lost, and passes on what it says.

Owns a bounded line of references and the requests. A reference the provider knows becomes its
receipt, one it does not know NotKnown. When it cannot be asked nothing happens here: the step's
next timer asks again, and its last one gives up. A full line drops what comes, for the same reason.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import structlog
import trio

from gateway.core.events import NotKnown, Refused, Reported
from gateway.core.ids import read_ref, step_ref
from gateway.core.records.message import Message
from gateway.dispatch.deps import DispatchDeps
from gateway.store.apply import Item
from providers.contract import Fault, Provider, Receipt, SendFault

REFS_MAX = 100  # in one question
LINE_MAX = 10_000

_log = structlog.get_logger("dispatch")


class LookUps:
    def __init__(self, deps: DispatchDeps, provider: Provider) -> None:
        self._deps = deps
        self._provider = provider
        self._name = provider.config.name
        self._line: dict[str, int] = {}  # reference: of which claim
        self._something = trio.Event()
        self._watchdog = deps.watchdog("look-ups")

    def add(self, message: Message) -> None:
        """Lines up the message's current step."""
        step = message.step
        ref = step_ref(message.id, message.current, step.series)
        if len(self._line) < LINE_MAX:
            self._line[ref] = step.claimed_ms
            self._something.set()
        else:
            self._deps.metrics.look_ups.labels(self._name, "dropped").inc()

    async def run(self) -> None:
        """Asks until cancelled."""
        while True:
            await self._something.wait()
            self._something = trio.Event()
            while self._line:
                refs = list(self._line)[:REFS_MAX]
                await self._ask({ref: self._line.pop(ref) for ref in refs})

    async def _ask(self, claims: Mapping[str, int]) -> None:
        refs = list(claims)
        requests = -(-len(refs) // self._provider.look_up_max)
        try:
            with trio.fail_after(requests * self._provider.config.timeout_ms / 1000 + 1.0):
                receipts = await self._provider.look_up(refs)
        except (SendFault, trio.TooSlowError) as fault:
            code = fault.code if isinstance(fault, SendFault) else "deadline"
            _log.warning("look-up failed", provider=self._name, n=len(refs), fault=code)
            self._deps.metrics.look_ups.labels(self._name, "failed").inc(len(refs))
            return
        except Exception:
            # A bug in an adapter; the messages wait for their next timer.
            _log.exception("a provider's adapter failed", provider=self._name)
            return
        items = [item for receipt in receipts if (item := self._item(receipt, claims)) is not None]
        known = {receipt.ref for receipt in receipts}
        unknown = [ref for text in refs if text not in known and (ref := read_ref(text))]
        items += [Item(ref.message_id, NotKnown(ref.step)) for ref in unknown]
        _log.info("look-up", provider=self._name, n=len(refs), unknown=len(unknown))
        self._deps.metrics.look_ups.labels(self._name, "known").inc(len(refs) - len(unknown))
        self._deps.metrics.look_ups.labels(self._name, "not_known").inc(len(unknown))
        await self._watchdog.until_done(lambda: self._deps.store.apply(items, self._deps.clock()))

    def _item(self, receipt: Receipt, claims: Mapping[str, int]) -> Item | None:
        """What an answer means. A rejection is taken for the answer that was lost, so the step
        counts as refused and never as sent: a provider charges nothing for what it did not take."""
        text = receipt.ref or ""
        ref = read_ref(text)
        if ref is None or text not in claims:
            return None
        if receipt.status == "rejected":
            fault = Fault("rejected", "rejected", True)
            if receipt.fault is not None:
                fault = msgspec.structs.replace(receipt.fault, permanent=True)
            refused = Refused(ref.step, fault)
            return Item(ref.message_id, refused, claimed_ms=claims[text])
        return Item(ref.message_id, Reported(ref.step, receipt, self._name, ref.series))
