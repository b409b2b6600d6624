"""What docs/reliability.md says of faults that last minutes, of expired messages, and of changes.

The words are here; every figure comes from the outcomes that are given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.chaos.audit import ARRIVED, NEVER_SENT, REASON
from bench.chaos.long_faults import LongOutcome
from bench.chaos.long_world import COMPANIES, KINDS, LONG, WELL
from bench.chaos.reach import RULES, Group
from bench.load_spec import percentile

WORDS = {
    "paused": "paused: no credit",
    "refused": "connections refused",
    "5xx": "503 to everything",
    "slow": "answers after 20 to 40 s, with a time-out of 10 s",
    "silent": "receipts stop, and come together at the end",
    WELL: "none: another provider's faults beside it",
}
SHOWN = {"otp": "codes", "marketing": "campaign"}
INTRO = """## Faults that last minutes

Before the storms another world lives through faults of 2 to 5 minutes: for each kind a provider
of its own for Viber and for SMS, all at once, and one without a fault. Codes, payments and campaign
messages go over each, with its Viber first and a healthy SMS behind, and over its SMS alone. How
long a message took is from its acceptance until the provider had it with its person, by the
provider's book; each is held against the rule that follows from the configured times:
Viber's `wait` is {otp} s for a code and {marketing} s for a campaign, `grace` {grace} s, `ttl`
{otp_ttl} s and {marketing_ttl} s, `timeout` {timeout} s and `lease` {lease} s. The rest is as it
comes: codes skip a provider that is away, campaigns are held. The audit is that of the storms.

"""
EXPIRED = """## What `expired` is made of

A message is `expired` when its time was over before anything said that it had arrived; its `reason`
says what kept it. What comes later, be it by hours, makes it delivered and counts so above. What
the providers' own books say of the expired stands beside: a person has it where its receipts are
lost for good, or its answer was where nobody can be asked, and only there. In the storms a step's
time is seconds and the provider is under one fault or another nearly all the time: a code or a
payment whose step's time is over before it is found again, or before Redis and the dispatchers are
back, is not sent late.

"""
WHY = {
    "no_receipt": "its last provider took it, or may have, and said nothing in the step's time",
    "away": "its last provider was away until its time was over: nobody could send it",
    "ttl": "it waited for its turn or its next try until its ttl was over",
    "not_sent": "its turn at its last provider did not come in the step's time",
}
FAILED = "its last request failed so, and its time was over before the next try or look-up"
SAID = "the provider gave it up, and said so by its receipt"
TROUBLE_INTRO = """\
By the ports of each kind, in virtual time (`tests/simulation/test_providers_in_trouble.py`). Nobody
gets anything twice."""
TROUBLE = (
    (
        "an SMSC ends the session every two seconds",
        "what was under way is unknown, a window each time at most; all else is delivered",
    ),
    (
        "an SMSC answers binds with `already bound` for ten minutes",
        "at most 30 binds; what waits is sent within 90 s of the end",
    ),
    (
        "an SMSC binds us and hangs up, for ten minutes",
        "the same; what was written in between is unknown",
    ),
    (
        "Google gives out no access token for ten minutes",
        "fewer than 100 requests for one; what waits is sent within 60 s of the end",
    ),
    (
        "a mail server greylists everybody for ten minutes",
        "each mail goes again by its own delays, and is delivered; the provider is not paused",
    ),
)
CHANGES = (
    (
        "a provider, route or price is removed",
        "nobody ends by it; what waits goes on to its next step, with `provider_removed`",
        "`tests/dispatch/providers/test_changed_providers.py`",
    ),
    (
        "a provider is retired (`retired`)",
        "nothing new goes to it; receipts and look-ups go on",
        "`tests/dispatch/providers/test_changed_providers.py`",
    ),
    (
        "the shares of a channel's providers, or one of them is gone",
        "what is accepted afterwards is shared so; what waits for one that is gone, another sends",
        "`tests/system/test_ways.py`, `tests/simulation/test_dispatch_ways.py`",
    ),
    (
        "a provider leaves its channel's list, and keeps its table",
        "it sends what waits for it and its receipts go on; nothing new goes to it",
        "`tests/simulation/test_dispatch_ways.py`",
    ),
    (
        "a provider is renamed (`was`)",
        "steps, receipts, look-ups and pauses go on under the new name",
        "the table below, `tests/dispatch/providers/test_changed_providers.py`",
    ),
    (
        "SIGHUP with a changed file",
        "rates and proofs hold at once, no request fails, a faulty file changes nothing",
        "the table below, `tests/system/test_changes.py`",
    ),
    (
        "proofs rotate",
        "receipts with the old proof are taken until it is removed",
        "the table below, `tests/ingress/callbacks/test_callbacks.py`",
    ),
    (
        "`kaskad copy` to another Redis",
        "all is there, money agrees; interrupted, it starts anew; nothing starts on the old",
        "`tests/store/copies/test_copying.py`, `tests/system/test_moving.py`",
    ),
    (
        "restored from a backup",
        "what was out then is looked up before anything is sent",
        "`tests/dispatch/jobs/test_restored.py`, `tests/system/test_runbook.py`",
    ),
    (
        "another currency over existing money",
        "refused with a sentence; a price in another is counted and not booked",
        (
            "`tests/store/installation/test_installation.py`, "
            "`tests/store/money/test_ignored_prices.py`"
        ),
    ),
)


def sections(outcomes: Sequence[LongOutcome], storms: Sequence[Counter[str]]) -> list[str]:
    """The page's sections; `storms` are the counts of the storms' audits."""
    if not outcomes:
        return []
    seeds = ", ".join(str(one.seed) for one in outcomes)
    broken, doubtful = (
        sum(map(len, each))
        for each in ([o.broken for o in outcomes], [o.doubtful for o in outcomes])
    )
    verdict = "All rules hold." if not broken else f"**{broken} assertions do not hold.**"
    if doubtful and not broken:
        verdict = f"**{doubtful} rules on time cannot be judged: the machine was too busy.**"
    seconds = ", ".join(f"{one.seconds:.0f}" for one in outcomes)
    intro = INTRO.format(
        otp=LONG.wait_s["otp"],
        marketing=LONG.wait_s["marketing"],
        grace=LONG.grace_s,
        otp_ttl=LONG.ttl_s["otp"],
        marketing_ttl=LONG.ttl_s["marketing"],
        timeout=LONG.timeout_s,
        lease=LONG.lease_s,
    )
    busy = max(one.busy for one in outcomes)
    told = f"Seeds {seeds}, side by side in {seconds} s. {verdict}\n"
    told += f"In the busiest 20 s the machine had work for {busy:.0%} of its time.\n\n"
    return [
        "\n".join((intro + told + _lengths(outcomes), _waits(outcomes), _rules())),
        EXPIRED + _expired(outcomes, storms),
        _changes(outcomes),
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """In Markdown; the first `left` columns are words, the others figures."""
    rule = ["---"] * left + ["--:"] * (len(head) - left)
    lines = [head, rule, *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _lengths(outcomes: Sequence[LongOutcome]) -> str:
    rows = [[WORDS[kind], *(f"{one.lasted_s[kind]:.0f}" for one in outcomes)] for kind in KINDS]
    return table(["fault, seconds", *(f"seed {one.seed}" for one in outcomes)], rows)


def _waits(outcomes: Sequence[LongOutcome]) -> str:
    """A row for each kind, way and category, over all seeds; of each the longest bound."""
    rows = []
    for kind in COMPANIES:
        for last in (False, True):
            for category, shown in SHOWN.items():
                groups = [
                    group
                    for one in outcomes
                    for group in one.groups
                    if (group.kind, group.last, group.category) == (kind, last, category)
                ]
                rows.append(
                    [WORDS[kind], "SMS alone" if last else "Viber, SMS", shown, *_row(groups)]
                )
    head = ["provider's fault", "over", "of", "messages", "median, s", "p99, s", "longest, s"]
    head += ["at most, s", "rule", "over SMS", "expired"]
    return "Of what was accepted while the fault lasted:\n\n" + table(head, rows, left=3)


def _row(groups: Sequence[Group]) -> list[str]:
    waits_s = sorted(wait for group in groups for wait in group.waits_s)
    count = sum(sum(group.ends.values()) for group in groups)
    shares = (percentile(waits_s, percent) for percent in (50, 99, 100))
    expired = sum(group.ends.get("expired", 0) for group in groups)
    return [
        f"{count:,}",
        *(f"{wait:.1f}" for wait in shares),
        f"{max(group.within_s for group in groups):.0f}",
        groups[0].rule,
        f"{sum(group.over_sms for group in groups):,}",
        f"{expired / count:.0%}" if count else "0%",
    ]


def _rules() -> str:
    return "The rules, as long as a message may take at the most:\n\n" + "".join(
        f"- **{name}**: {words}.\n" for name, words in RULES.items()
    )


def _expired(outcomes: Sequence[LongOutcome], storms: Sequence[Counter[str]]) -> str:
    long = sum((Counter(one.counts) for one in outcomes), Counter[str]())
    counts = {"storms": sum(storms, Counter[str]()), "long faults": long}
    shares = {under: each["final: expired"] / each["accepted"] for under, each in counts.items()}
    told = ", ".join(f"{share:.1%} under {under}" for under, share in shares.items())
    rows = [
        [
            f"`{reason}`",
            under,
            why(reason),
            f"{each[REASON + reason]:,}",
            f"{each[REASON + reason] / each['accepted']:.1%}",
            f"{each[NEVER_SENT + reason]:,}",
            f"{each[ARRIVED + reason]:,}",
        ]
        for under, each in counts.items()
        for reason in sorted(name.removeprefix(REASON) for name in each if name.startswith(REASON))
    ]
    head = ["reason", "under", "why", "messages", "of all accepted", "its last provider never had"]
    return f"Of all accepted: {told}.\n\n" + table([*head, "a person has"], rows, left=3)


def why(reason: str) -> str:
    """A sentence for every reason: ours, the code of a request that failed, or a receipt's word."""
    return WHY.get(reason) or (SAID if reason.isupper() else FAILED)


def _changes(outcomes: Sequence[LongOutcome]) -> str:
    kinds = table(["change", "what holds", "shown by"], CHANGES, left=3)
    rows = [
        [name, *(f"{one.changes[name]:.1f}" for one in outcomes)] for name in outcomes[0].changes
    ]
    took = table(["change, seconds", *(f"seed {one.seed}" for one in outcomes)], rows)
    trouble = table(["trouble", "what comes of it"], TROUBLE, left=2)
    return (
        f"## A provider in trouble\n\n{TROUBLE_INTRO}\n\n{trouble}\n"
        f"## Changes while it works\n\n{kinds}\nIn the world of the long faults, under load and "
        "while receipts were held back, until every\nrole had taken the change over, or was "
        f"started again:\n\n{took}"
    )
