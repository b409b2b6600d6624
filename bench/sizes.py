"""How much each scenario does: `make bench` and its quick form. Nothing here is measured."""

from __future__ import annotations

import msgspec

SINGLE_CONNECTIONS = 50  # to a provider that takes one message a request
SMPP_WINDOW = 100


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Messages unless the name says otherwise; rates in messages a second, `storm_rate` in clicks.

    `growth` is how many wait, few and many, while `growth_window` more are measured.
    """

    messages: int
    warm: int
    otp_waiting: int
    otp_seconds: int
    otp_provider_rate: int
    limit_rate: int
    limit_seconds: int
    limit_dispatchers: tuple[int, ...]
    growth: tuple[int, int]
    growth_window: int
    single: int
    storm_waiting: int
    storm_provider_rate: int
    storm_rate: int


FULL = Sizes(
    messages=50_000,
    warm=2_000,
    otp_waiting=100_000,
    otp_seconds=20,
    otp_provider_rate=2_500,
    limit_rate=1_000,
    limit_seconds=10,
    limit_dispatchers=(1, 2, 4),
    growth=(10_000, 500_000),
    growth_window=10_000,
    single=12_500,
    storm_waiting=60_000,
    storm_provider_rate=1_000,
    storm_rate=5_000,
)
QUICK = Sizes(
    messages=3_000,
    warm=300,
    otp_waiting=10_000,
    otp_seconds=2,
    otp_provider_rate=2_500,
    limit_rate=500,
    limit_seconds=4,
    limit_dispatchers=(4,),
    growth=(1_000, 10_000),
    growth_window=1_000,
    single=1_500,
    storm_waiting=8_000,
    storm_provider_rate=1_000,
    storm_rate=5_000,
)
