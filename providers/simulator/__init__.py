"""The provider simulator: a provider's wire format over HTTP, faults on demand, and a bill.

What others call: `Settings` and `Knobs` to set it up, `serve` (a coroutine) or `run` (blocking) to
run it in this process, `child.start` to run it in another one. Imports nothing of the gateway, and
may use asyncio, which the rest of `providers` must not: it stands in for somebody else's server.
"""

from providers.simulator.bookfile import BookFault
from providers.simulator.habits import Manner, People, person_at, read_people
from providers.simulator.knobs import KnobFault, Knobs, Override, Overrides, changed, knobs_of
from providers.simulator.mail.certificate import CertificateFault
from providers.simulator.prices import Price, load_prices
from providers.simulator.server import Settings, run, serve

__all__ = [
    "BookFault",
    "CertificateFault",
    "KnobFault",
    "Knobs",
    "Manner",
    "Override",
    "Overrides",
    "People",
    "Price",
    "Settings",
    "changed",
    "knobs_of",
    "load_prices",
    "person_at",
    "read_people",
    "run",
    "serve",
]
