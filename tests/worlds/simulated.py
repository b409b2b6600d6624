"""Messages over our own code to a simulator or server, and what each of them came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import trio

from providers.contract import Outcome, Provider, SendFault, Submission
from providers.http.adapter import Adapter, Reply
from providers.simulator import Knobs, child
from tests.worlds.simulator_webhook import call

KNOBS = Knobs(answer_ms_min=0, answer_ms_max=0, receipt_ms_min=60_000, receipt_ms_max=60_000)


def outcome_of(
    adapter: Adapter,
    simulator: child.Child,
    sent: Submission,
    *,
    under: str = "",
    headers: Mapping[str, str] | None = None,
) -> Outcome | SendFault:
    """What one message came to; `under` stands before the path, `headers` beside the adapter's."""
    request = adapter.submit([sent])
    carried = {name.lower(): value for name, value in request.headers} | dict(headers or {})
    path = under + request.path
    answer = call(simulator.port, request.method, path, request.body, headers=carried)
    try:
        (outcome,) = adapter.outcomes([sent], Reply(answer.status, answer.headers, answer.body))
    except SendFault as fault:
        return fault
    return outcome


async def answers_of(
    provider: Provider, *batches: Sequence[Submission]
) -> list[Outcome | SendFault]:
    """What each message came to, or each batch as a whole."""
    met: list[Outcome | SendFault] = []
    for batch in batches:
        try:
            met.extend(await provider.deliver(batch))
        except SendFault as fault:
            met.append(fault)
    return met


def came_to(
    make: Callable[[], Provider], *batches: Sequence[Submission]
) -> list[Outcome | SendFault]:
    """The same of a provider that lives no longer; `make` is called under trio."""

    async def main() -> list[Outcome | SendFault]:
        provider = make()
        met = await answers_of(provider, *batches)
        await provider.aclose()
        return met

    return trio.run(main)
