"""The configuration of a storm, as its plan has it."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.core.money.budgets import Budget
from gateway.core.policy import Policy, RouteStep
from ratelimit.caps import Cap
from tests.simulation.storm_plan import Plan
from tests.worlds.cascade_world import DAY, DAYTIME, MINUTE, PRICES, policy

CAPS = (Cap("three", 3, DAY, "1d", "marketing", None), Cap("sms", 2, DAY, "1d", None, "sms"))
WHERE_KNOWN = replace(DAYTIME, unknown_zone="hold", country_zones={})
DEAREST = PRICES["viber-2"].cost + PRICES["sms"].cost  # of a message, at most


def rules_of(plan: Plan) -> Policy:
    rules = policy(caps=CAPS, resend_unknown=plan.resend, steps=_steps(plan))
    if plan.timed:
        window = WHERE_KNOWN if plan.zones else DAYTIME
        by_day = replace(rules.categories["marketing"], send_window=window)
        rules = replace(rules, categories={**rules.categories, "marketing": by_day})
    rules = replace(rules, budgets=budgets_of(plan, plan.budget))
    return replace(rules, best={"viber-then-sms": "cost"}) if plan.best else rules


def budgets_of(plan: Plan, messages: int) -> tuple[Budget, ...]:
    """One of marketing, with room for so many messages an hour, and one of all text messages."""
    if not plan.budget:
        return ()
    few = Budget(
        "few",
        messages * DEAREST,
        60 * MINUTE,
        "1h",
        "refuse" if plan.refuses else "hold",
        (50, 100),
        category="marketing",
    )
    sms = Budget("sms", 2 * messages * PRICES["sms"].cost, 60 * MINUTE, "1h", channel="sms")
    return few, sms


def _steps(plan: Plan) -> tuple[RouteStep, ...]:
    """The first may be shared by two providers, and may wait for a reaction."""
    names = ("viber", "viber-2") if plan.shared else ("viber",)
    first = RouteStep(names, 15 * MINUTE, 10_000)
    if plan.react_s:
        first = replace(first, until="seen", react_ms=plan.react_s * 1_000)
    return first, RouteStep(("sms",), 24 * 60 * MINUTE, 10_000)
