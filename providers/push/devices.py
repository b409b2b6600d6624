"""One message to all devices of a person: every one is tried, and the step is what they came to.

What one device came to is an outcome or a fault. The message is delivered with the first device
that has it. Where none has, an answer that was lost counts before all others, because that device
may have it; then what was not sent at all, which is tried again for all; then refusals, those that
may pass before those that stay.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio
from msgspec.structs import replace

from providers.contract import (
    AccountFault,
    BadRequest,
    Device,
    Fault,
    NotSent,
    Outcome,
    Refused,
    SendFault,
    Submission,
    Submitted,
    Throttled,
    Unknown,
)

D = TypeVar("D", bound=Device)
Met = Outcome | SendFault  # what one device came to

_FAULTS = (Unknown, AccountFault, Throttled, NotSent)
# Of the person's devices there is none that this provider reaches.
NO_DEVICE = Fault("no_device", "no_device", True)


async def to_all(
    sent: Submission, kind: type[D], send: Callable[[Submission, D], Awaitable[Outcome]]
) -> Outcome:
    """Sends to all devices of a kind at once. Raises SendFault where that is what they came to."""
    devices = [each for each in sent.devices if isinstance(each, kind)]
    if not devices:
        return Refused(sent.ref, NO_DEVICE)
    if len(devices) == 1:
        return await send(sent, devices[0])
    met: list[Met] = []

    async def one(device: D) -> None:
        try:
            met.append(await send(sent, device))
        except SendFault as fault:
            met.append(fault)

    async with trio.open_nursery() as nursery:
        for device in devices:
            nursery.start_soon(one, device)
    return together(sent.ref, met)


def gone(ref: str, fault: Fault, device: Device) -> Refused:
    """The device does not exist any more."""
    return Refused(ref, fault, unreachable=True, gone=(device,))


def together(ref: str, met: Sequence[Met]) -> Outcome:
    """What a message came to by what its devices did. Raises SendFault."""
    outcomes = [_refused(ref, each) if isinstance(each, BadRequest) else each for each in met]
    said = [each for each in outcomes if isinstance(each, Submitted | Refused)]
    dead = tuple(device for each in said for device in each.gone)
    taken = next((each for each in outcomes if isinstance(each, Submitted)), None)
    if taken is not None:
        return replace(taken, gone=dead)
    for kind in _FAULTS:
        fault = next((each for each in outcomes if isinstance(each, kind)), None)
        if isinstance(fault, Unknown):  # it is not sent again: nobody would learn it then
            fault.gone = tuple(d for each in said if not _of_account(each) for d in each.gone)
        if fault is not None:
            raise fault
    refusals = [each for each in outcomes if isinstance(each, Refused)]
    first = min(refusals, key=lambda each: (each.fault.permanent, each.unreachable))
    return replace(first, gone=dead, unreachable=all(each.unreachable for each in refusals))


def _of_account(met: Submitted | Refused) -> bool:
    """Whether it speaks of the account, and a device may be as good as it was."""
    return isinstance(met, Refused) and met.about == "account"


def _refused(ref: str, refused: BadRequest) -> Refused:
    """A request that was refused as a whole, among others of its message."""
    return Refused(ref, Fault(refused.code, refused.code, True), about=refused.about)
