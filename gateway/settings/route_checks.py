"""What channels and routes must mean: providers that exist, steps that can start. Part of
`checks`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.core.channels import CHANNELS
from gateway.core.records.words import importance_named
from gateway.decoding import KeyFault
from gateway.settings.known_names import none_such, table_of
from gateway.settings.tables import Document, StepSettings

STEPS_MAX = 8


def channel_faults(document: Document, table: Mapping[str, Any]) -> Iterator[KeyFault]:
    providers = table_of(table, "providers")
    for channel, shared in document.channels.items():
        path = f"channels.{channel}"
        if channel not in CHANNELS:
            yield KeyFault(path, f"is no channel, {none_such(CHANNELS)}")
            continue
        if shared.providers is None:
            continue
        if not shared.providers:
            yield KeyFault(
                f"{path}.providers",
                "is empty: name a provider, or leave it out for every one of the channel.",
            )
        for name, times in Counter(share.name for share in shared.providers).items():
            if name not in providers:
                yield KeyFault(
                    f"{path}.providers",
                    f"names the provider {name!r}, {none_such(providers)}",
                )
            elif name in document.providers and document.channel(name) != channel:
                yield KeyFault(
                    f"{path}.providers",
                    f"names the provider {name!r}, which sends {document.channel(name)}.",
                )
            if times > 1:
                yield KeyFault(
                    f"{path}.providers",
                    f"names the provider {name!r} {times} times: give it one weight.",
                )


def _names_one(
    step: StepSettings, document: Document, at: str, providers: Mapping[str, Any]
) -> Iterator[KeyFault]:
    """A step is of one provider, or of one channel that somebody sends on."""
    if not step.name:
        yield KeyFault(at, "names neither a provider nor a channel: write one of them.")
    elif step.provider and step.channel:
        yield KeyFault(at, "names a provider and a channel: write one of them.")
    elif step.channel and step.channel not in CHANNELS:
        yield KeyFault(
            f"{at}.channel", f"names the channel {step.channel!r}, {none_such(CHANNELS)}"
        )
    elif not (step.provider or document.senders(step) or providers.keys() - document.providers):
        yield KeyFault(f"{at}.channel", f"is {step.channel}, which no provider here sends.")


def route_faults(document: Document, table: Mapping[str, Any]) -> Iterator[KeyFault]:
    providers = table_of(table, "providers")
    for name, route in document.routes.items():
        path = f"routes.{name}.steps"
        # Steps with a fault of their own are left out: only as many as were written count.
        written = table_of(table, "routes")[name]["steps"]
        if not 1 <= len(written) <= STEPS_MAX:
            yield KeyFault(path, f"needs 1 to {STEPS_MAX} steps.")
        named = {step.provider for step in route.steps if step.provider}
        for provider in sorted(named - providers.keys()):
            yield KeyFault(path, f"names the provider {provider!r}, {none_such(providers)}")
        names = Counter(name for step in route.steps for name in document.senders(step) if name)
        for provider, times in names.items():
            if times > 1:
                yield KeyFault(
                    path,
                    f"names the provider {provider!r} {times} times, by itself or by its channel: "
                    "once is enough.",
                )
        places = [_name_in(step) for step in written]
        for step in route.steps:
            at = f"{path}[{places.index(step.name)}]"
            yield from _names_one(step, document, at, providers)
            if step.until != "delivered" and step.react_ms is None:
                yield KeyFault(
                    f"{at}.react",
                    f'is needed with until = "{step.until}": how long after delivery the person '
                    'may take, such as "4h".',
                )
            yield from _waits(step, at)
            if importance_named(step.importance) > importance_named(step.importance_max):
                yield KeyFault(
                    f"{at}.importance",
                    f'is "{step.importance}", above importance_max = "{step.importance_max}": no '
                    "message is both.",
                )


def _name_in(step: object) -> object:
    """What a step calls itself by, as it is written."""
    named = isinstance(step, Mapping) and (step.get("provider") or step.get("channel"))
    return named or ""


def _waits(step: StepSettings, at: str) -> Iterator[KeyFault]:
    if not step.is_learned:
        for key, value in (("wait_min", step.wait_min_ms), ("wait_max", step.wait_max_ms)):
            if value is not None:
                yield KeyFault(f"{at}.{key}", 'says nothing without wait = "auto": leave it out.')
    elif step.wait_max_ms is None:
        yield KeyFault(f"{at}.wait_max", 'is needed with wait = "auto", such as "15m".')
    elif step.shortest_ms > step.wait_max_ms:
        yield KeyFault(
            f"{at}.wait_max", f"is shorter than wait_min, which is {step.shortest_ms // 1000} s."
        )
