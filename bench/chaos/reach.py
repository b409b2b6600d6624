"""How long messages took to reach a person while a provider was away, and how long they may.

Pure. The bounds are rules over the configured times (`RULES`), none is a measurement. Three things
are added to them: a request may take its time-out (`timeout`), what a dispatcher claimed is with
others after its lease (`lease`), and what is probed, tried again or looked up is so after as long
as it has lasted, five minutes at the most (`BACK_S_MAX`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from bench.chaos.long_world import LAST, WELL, Terms
from bench.load_spec import percentile

BACK_S_MAX = 300.0
ASKED_S = 15.0  # a provider is asked twice before what it lost is sent again
AGAIN_S = 10.0  # a code whose only provider is away is tried again so often at least
RULES = {
    "at once": "the provider takes and delivers it: `timeout + lease`",
    "step": "the next provider has it when its step's time is over: `wait + grace + timeout + "
    "lease`; half of the codes go there at once: `timeout + lease`",
    "return": "it is held until the provider is back: the fault, as long again but 5 minutes at "
    "the most, 15 s for two look-ups, `timeout + lease`",
    "worth": "it is sent while it is worth it: `ttl + timeout + lease`; it expires only where its "
    "ttl ends before the provider is found again",
}


class Reached(msgspec.Struct, frozen=True):
    """One message: when it was accepted and when a person had it, epoch milliseconds, 0 for never;
    over which channel; and how it ended."""

    route: str
    category: str
    accepted_ms: int
    reached_ms: int
    channel: str
    status: str
    reason: str | None

    @property
    def wait_s(self) -> float:
        # Two processes of one machine read its clock.
        return max(self.reached_ms - self.accepted_ms, 0) / 1000


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The messages of one category that were accepted while one kind of fault lasted; `last` says
    that no other provider could stand in. `waits_s` are sorted, without those never reached."""

    kind: str
    last: bool
    category: str
    lasts_s: float
    rule: str
    within_s: float
    waits_s: list[float]
    ends: dict[str, int]
    over_sms: int


def rule_of(kind: str, category: str, *, last: bool) -> str:
    """The name of the rule that bounds the longest wait."""
    if kind in (WELL, "silent"):
        return "at once"
    if category == "marketing":
        return "return"
    if not last:
        return "step"
    return "worth" if category == "otp" else "return"


def bound_s(rule: str, category: str, lasts_s: float, terms: Terms) -> float:
    """How long the rule lets a message take at the most."""
    more_s = {
        "at once": 0.0,
        "step": float(terms.wait_s.get(category, 0) + terms.grace_s),
        "return": lasts_s + min(lasts_s, BACK_S_MAX) + ASKED_S,
        "worth": float(terms.ttl_s[category]),
    }
    return more_s[rule] + terms.timeout_s + terms.lease_s


def grouped(
    messages: Sequence[Reached], spans: dict[str, tuple[int, int]], terms: Terms
) -> tuple[list[Group], list[str]]:
    """The groups, and a sentence for each rule that does not hold. `spans` are beginning and end of
    each kind's fault, epoch milliseconds."""
    groups: list[Group] = []
    faults: list[str] = []
    for kind, (began_ms, ended_ms) in spans.items():
        for last in (False, True):
            for category in terms.ttl_s:
                route = f"{kind}{LAST if last else ''}-{category}"
                chosen = [
                    message
                    for message in messages
                    if message.route == route and began_ms <= message.accepted_ms < ended_ms
                ]
                group = _group(kind, category, chosen, (ended_ms - began_ms) / 1000, terms, last)
                groups.append(group)
                faults += _broken(group, chosen, ended_ms, terms)
    return groups, faults


def _group(
    kind: str,
    category: str,
    chosen: Sequence[Reached],
    lasts_s: float,
    terms: Terms,
    last: bool,
) -> Group:
    rule = rule_of(kind, category, last=last)
    reached = [message for message in chosen if message.reached_ms]
    return Group(
        kind=kind,
        last=last,
        category=category,
        lasts_s=lasts_s,
        rule=rule,
        within_s=bound_s(rule, category, lasts_s, terms),
        waits_s=sorted(message.wait_s for message in reached),
        ends=dict(Counter(message.status for message in chosen)),
        over_sms=sum(message.channel == "sms" for message in reached),
    )


def _broken(group: Group, chosen: Sequence[Reached], ended_ms: int, terms: Terms) -> list[str]:
    name = f"{group.kind}{LAST if group.last else ''}, {group.category}"
    if not chosen:
        return [f"{name}: nothing was sent"]
    found: list[str] = []
    late = [wait for wait in group.waits_s if wait > group.within_s]
    if late:
        found.append(
            f"{name}: {len(late)} took longer than {group.within_s:.0f} s ({group.rule}), "
            f"the longest {late[-1]:.0f} s"
        )
    at_once_s = terms.timeout_s + terms.lease_s
    if group.category == "otp" and not group.last and percentile(group.waits_s, 50) > at_once_s:
        found.append(f"{name}: half of them took longer than {at_once_s} s")
    if group.rule in ("at once", "return") and not group.last and group.over_sms:
        found.append(f"{name}: {group.over_sms} came as SMS and not over Viber")
    back_s = min(group.lasts_s, BACK_S_MAX) + AGAIN_S + at_once_s
    for_nothing = [
        message
        for message in chosen
        if not message.reached_ms
        and (
            group.rule != "worth"
            or message.accepted_ms + 1000 * terms.ttl_s[group.category] > ended_ms + 1000 * back_s
        )
    ]
    if for_nothing:
        found.append(f"{name}: {len(for_nothing)} never reached a person: {for_nothing[0]}")
    return found
