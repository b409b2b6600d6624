"""What an operator should look at now, in sentences: of `kaskad status` and the console."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from gateway import telemetry
from gateway.ingress.api.ops_view import Fleet, OpsView, WebhookState
from gateway.store.outbox import WAITING_MAX


def remarks(view: OpsView, shared: Fleet, processes: Mapping[str, str]) -> Iterator[str]:
    """One a sentence; `processes` are the versions of all that run, by name. Pure."""
    roles = [telemetry.role_of(name) for name in processes]
    if "ingress" not in roles:
        yield "No ingress runs: nothing is taken."
    if "dispatch" not in roles:
        yield "No dispatcher runs: nothing is sent."
    if len(set(processes.values())) > 1:
        yield "Processes of several versions run: end the upgrade."
    if (drain := view.drain) is not msgspec.UNSET:
        rest = "the lanes are empty" if drain.empty else f"{drain.waiting} messages wait in lanes"
        yield f"New messages are refused since {drain.since} by {drain.by}: {rest}."
    for name, figures in sorted(shared.figures.items()):
        if figures.differ:
            rates = ", ".join(f"{rate}/s at {who}" for who, rate in sorted(figures.rates.items()))
            yield f"Dispatchers have different rates for {name}: {rates}. Reload the old ones."
    for name, provider in view.providers.items():
        if (pause := provider.paused) is not None:
            by = f" by {pause.by}" if pause.by else ""
            yield f"{name} is paused{by} since {pause.since} ({pause.kind}): {pause.detail or '-'}"
        if (rate := provider.temporary_rate) is not msgspec.UNSET:
            yield f"{name} has {rate.rate}/s until {rate.until} by {rate.by}."
    for budget in view.budgets:
        if budget.warned:
            used = f"{budget.used} of {budget.limit} {budget.currency}"
            yield f"The budget {budget.name} has crossed {budget.warned} %: {used} are used."
    yield from _of_webhooks(view.webhooks)


def _of_webhooks(webhooks: Iterable[WebhookState]) -> Iterator[str]:
    for webhook in webhooks:
        which, waits = f"{webhook.name} of {webhook.app}", f"{webhook.waiting} events wait"
        if webhook.disabled is not None:
            yield f"The webhook {which} is disabled ({webhook.disabled}): {waits}."
        elif webhook.enabled and webhook.dead:
            yield f"The webhook {which} has taken nothing since {webhook.failing_since}: {waits}."
        elif webhook.enabled and webhook.behind:
            beyond = f"beyond {WAITING_MAX} the oldest leave"
            yield f"The webhook {which} is behind: {waits}, and {beyond}."
