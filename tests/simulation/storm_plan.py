"""What a seed draws of a storm: how much of what there is in its world."""

from __future__ import annotations

import random
from typing import Any

import msgspec

# A world without what came later: each of these can be left out alone.
PLAIN: dict[str, Any] = {
    "react_s": 0, "shared": False, "changes": 0, "pace": 0, "timed": False, "merges": 0,
    "replies": False, "best": False, "budget": 0, "zones": False, "leaves_out": False,
    "hides": False, "unheard_share": 0.0,
}  # fmt: skip


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a seed draws: how much of what. Every share is of the chances there are."""

    seed: int
    messages: int
    shards: int
    dispatchers: int
    cut_share: float  # of calls to Redis
    slow_share: float
    die_share: float  # of a dispatcher's calls: it dies there
    still_share: float  # ... it stands still there
    fault_share: float  # of a provider's answers
    outages: int
    breaks: int  # times a provider has no credit
    clocks_apart_s: float
    resend: bool
    react_s: int  # how long a first step waits for a reaction; 0: routes are plain
    shared: bool  # two providers share the first channel
    changes: int  # times that a campaign is paused, resumed or cancelled
    pace: int  # first steps of a campaign a minute; 0: no pace
    timed: bool  # marketing goes by day only, and some messages are for later
    merges: int  # times that a user is stored, to whom addresses come from others
    replies: bool  # people write back, some of them STOP
    best: bool  # routes are put in order for each person
    budget: int  # messages an hour that there is money for; 0: there are no budgets
    refuses: bool  # a budget of marketing that is full refuses, rather than holds

    zones: bool  # what goes by day waits until it is known where its user is
    leaves_out: bool  # campaigns leave out who had another, or reacted lately
    hides: bool  # somebody hides what is seen, and is known for it
    unheard_share: float  # of transactions: done, and their answer is lost

    @classmethod
    def of(cls, seed: int) -> Plan:
        chance = random.Random(seed)
        pick = chance.choice
        return cls(
            seed=seed,
            messages=pick((2, 4, 8, 20)),
            shards=pick((1, 1, 1, 3)),
            dispatchers=pick((1, 2, 2, 3)),
            cut_share=pick((0.0, 0.003, 0.02, 0.08)),
            slow_share=pick((0.0, 0.01, 0.1)),
            die_share=pick((0.0, 0.001, 0.005, 0.02)),
            still_share=pick((0.0, 0.0, 0.001, 0.004)),
            fault_share=pick((0.0, 0.05, 0.2, 0.5)),
            outages=pick((0, 0, 1, 3)),
            breaks=pick((0, 0, 0, 1)),
            clocks_apart_s=pick((0.0, 0.0, 0.5, 3.0)),
            resend=pick((False, False, True)),
            react_s=pick((0, 0, 60, 3_600)),
            shared=pick((False, True)),
            changes=pick((0, 0, 2, 6)),
            pace=pick((0, 0, 0, 6)),
            timed=pick((False, False, True)),
            merges=pick((0, 0, 2, 6)),
            replies=pick((False, True)),
            best=pick((False, False, True)),
            budget=pick((0, 0, 1, 3)),
            refuses=pick((False, False, True)),
            zones=pick((False, False, True)),
            leaves_out=pick((False, False, True)),
            hides=pick((False, True)),
            unheard_share=pick((0.0, 0.0, 0.02, 0.3)),
        )
