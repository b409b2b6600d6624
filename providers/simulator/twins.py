"""Which providers the simulator is a twin of: the one table to which a new twin is added."""

from __future__ import annotations

from typing import Final

from providers.contract import Channel
from providers.simulator.infobip.twin import Infobip
from providers.simulator.twin import Twin

TWINS: Final[dict[str, Twin]] = {twin.catalogue.provider: twin for twin in (Infobip(),)}
CHANNELS: Final[tuple[Channel, ...]] = tuple(
    dict.fromkeys(channel for twin in TWINS.values() for channel in twin.channels)
)
