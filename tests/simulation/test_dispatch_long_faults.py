"""Faults of 2 to 10 minutes in virtual time, each of another provider: how long a code and a
campaign message took to reach a person, how each ended, and why.

What is asserted follows from the rules: the step's time, the message's ttl, and how long after its
return a provider is found.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import trio

from bench.load_spec import percentile
from gateway.core.policy import (
    LOOK_UP_MAX_MS,
    PASSED_OVER_MAX_MS,
    RETRY_DELAY_MAX_MS,
    Policy,
    RouteStep,
)
from gateway.store.providers.pauses import DELAY_MS_MAX
from tests.simulation.away import Away
from tests.simulation.test_dispatch_away import BUSY, NO_CREDIT, REFUSED
from tests.worlds.cascade_world import PRICES, TTL_MS, policy

GONE = {"no credit": NO_CREDIT, "refused": REFUSED, "busy": BUSY}
KINDS = (*GONE, "slow", "silent")
EVERY_S = 10.0  # from one code, and one message of a campaign, to the next
AT_ONCE_S = 0.2
HOP_S = 1.0  # from a timer that is due to the next provider
CALM_S = 20.0
# Probes, retries and look-ups come after as long as it has lasted, and this at the most.
BACK_S_MAX = max(DELAY_MS_MAX, RETRY_DELAY_MAX_MS, LOOK_UP_MAX_MS) / 1000
FOUND_WITH = 12  # codes: the first failures in a row, and probes
WHY = {"away", "ttl", "connect_failed", "http_503"}
RULES = policy()
TTL_S = TTL_MS["otp"] / 1000
FAST = RULES.routes["fast"]
STEP_S = (FAST[0].wait_ms + FAST[0].grace_ms) / 1000


class Wave:
    """The codes and the campaign that were asked for while one provider was away."""

    def __init__(self, away: Away, kind: str, lasts_s: float) -> None:
        self.kind, self.lasts_s = kind, lasts_s
        self.codes: list[str] = []
        self.campaign: list[str] = []
        self._away = away

    async def play(self, provider: str, code: str, campaign: str) -> None:
        """`code` and `campaign` are routes whose first step is the provider's."""
        away = self._away
        if self.kind in GONE:
            away.gone[provider] = GONE[self.kind]
        elif self.kind == "slow":
            away.slow.add(provider)
        else:
            away.silent[provider] = trio.Event()
        self.began = trio.current_time()
        end = self.began + self.lasts_s
        while trio.current_time() < end:
            self.codes += await away.admit(category="otp", campaign=None, route=code)
            self.campaign += await away.admit(route=campaign)
            await trio.sleep(EVERY_S)
        away.gone.pop(provider, None)
        away.slow.discard(provider)
        if self.kind == "silent":
            away.silent.pop(provider).set()
        await trio.sleep(self.back_s + CALM_S)

    @property
    def back_s(self) -> float:
        """How long after its provider's return the last message goes on."""
        return 0.0 if self.kind == "silent" else min(self.lasts_s, BACK_S_MAX)


def rules(name: str, steps: Mapping[str, tuple[RouteStep, ...]]) -> Policy:
    """A provider like `name` for each kind of fault, beside the healthy ones, and for each of the
    routes one whose first step is its."""
    own = {f"{name} {kind}": RULES.providers[name] for kind in KINDS}
    return msgspec.structs.replace(
        RULES,
        providers={**RULES.providers, **own},
        routes={
            f"{route} {kind}": (
                msgspec.structs.replace(first, providers=(f"{name} {kind}",)),
                *later,
            )
            for route, (first, *later) in steps.items()
            for kind in KINDS
        },
        quote=lambda provider, *_: PRICES[provider.split()[0]],
    )


def play(
    name: str,
    code: tuple[RouteStep, ...],
    campaign: tuple[RouteStep, ...],
    minutes: Mapping[str, float],
    dispatchers: int,
) -> tuple[Away, dict[str, Wave]]:
    away = Away(rules(name, {"code": code, "campaign": campaign}), sure=False)
    waves = {kind: Wave(away, kind, 60.0 * lasts) for kind, lasts in minutes.items()}

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            for kind, wave in waves.items():
                nursery.start_soon(wave.play, f"{name} {kind}", f"code {kind}", f"campaign {kind}")

    away.run(work, dispatchers)
    return away, waves


def test_codes_and_campaigns_reach_people_while_viber_is_away_for_minutes() -> None:
    minutes = {"no credit": 2, "refused": 3, "busy": 4, "slow": 4, "silent": 5}
    away, waves = play("viber", FAST, RULES.routes["viber-then-sms"], minutes, 2)
    for kind, wave in waves.items():
        codes, campaign = away.waits(wave.codes), away.waits(wave.campaign)
        assert away.outcomes(wave.codes) == {("delivered", None): len(wave.codes)}
        assert away.outcomes(wave.campaign) == {("delivered", None): len(wave.campaign)}
        assert percentile(codes, 50) < AT_ONCE_S
        # Only those with which the fault was found, or probed, wait for their step's time.
        assert codes[-1] <= STEP_S + HOP_S
        assert sum(wait > AT_ONCE_S for wait in codes) <= FOUND_WITH
        assert {away.reached[id_][0] for id_ in wave.campaign} == {f"viber {kind}"}
        if kind == "silent":
            assert campaign[-1] < AT_ONCE_S
            continue
        assert percentile(campaign, 50) <= wave.lasts_s / 2 + wave.back_s
        assert campaign[-1] <= wave.lasts_s + wave.back_s + HOP_S
    assert all(waves["silent"].codes[n] in away.twice for n in range(3)), (
        "by policy, after its time"
    )
    twice = away.twice.difference(waves["silent"].codes)
    assert not twice, "what was lost and known when it was looked up is not sent as SMS"


def test_codes_and_campaigns_wait_for_the_only_provider_as_long_as_they_are_worth_it() -> None:
    minutes = {"no credit": 2, "refused": 6, "busy": 4, "slow": 3, "silent": 5}
    away, waves = play("sms", FAST[1:], RULES.routes["sms-only"], minutes, 1)
    for kind, wave in waves.items():
        codes, campaign = away.waits(wave.codes), away.waits(wave.campaign)
        assert away.outcomes(wave.campaign) == {("delivered", None): len(wave.campaign)}
        expired = [id_ for id_ in wave.codes if id_ not in away.reached]
        assert len(codes) + len(expired) == len(wave.codes)
        if kind == "silent":
            assert max(codes[-1], campaign[-1]) < AT_ONCE_S
            assert away.outcomes(wave.codes) == {("delivered", None): len(wave.codes)}
            continue
        assert codes[-1] <= TTL_S
        assert campaign[-1] <= wave.lasts_s + wave.back_s + HOP_S
        # A code expires only where its time was over before its provider was found again.
        found_s = wave.began + wave.lasts_s + wave.back_s + PASSED_OVER_MAX_MS / 1000 + HOP_S
        assert all(away.asked[id_] + TTL_S < found_s for id_ in expired)
        assert {reason for (status, reason), _ in away.outcomes(expired).items()} <= WHY
    assert len(waves["refused"].codes) > sum(id_ in away.reached for id_ in waves["refused"].codes)
