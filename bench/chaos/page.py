"""docs/reliability.md: what the fault bench found, written by the bench itself and by nobody else.

The words are here; every figure comes from the outcomes that are given.
"""

from __future__ import annotations

import datetime
import os
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.chaos import clicks, happenings, page_long
from bench.chaos.long_faults import LongOutcome
from bench.chaos.matrix import Row
from bench.chaos.storm import Outcome

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
ALL_FAULTS_S = 240.0  # a load as long as this must meet every fault
TOLD = (
    ("accepted", "accepted"),
    ("duplicate", "told to be duplicates"),
    ("suppressed", "suppressed by a cap, an opt-out, a budget or a cancelled campaign"),
    ("refused by a full budget", "... of which by a budget that was full"),
    ("rejected", "refused as invalid"),
    (happenings.PAUSED, "held when accepted: their campaign was paused"),
    (happenings.PACED, "... by their campaign's pace"),
    (happenings.OPENS, "... until their send window opens"),
    (happenings.LATER, "... for later (`send_at`)"),
    ("client: sent again", "sent again by the client, with the same key"),
    ("client: answers lost", "answers the client lost"),
    ("final: delivered", "final: delivered"),
    ("final: seen", "final: seen"),
    ("final: clicked", "final: clicked"),
    ("final: undelivered", "final: undelivered"),
    ("final: expired", "final: expired"),
    ("final: suppressed", "final: suppressed, by an opt-out or a cap since"),
    ("final: cancelled", "final: cancelled"),
    ("cancelled with their campaign", "... with their campaign"),
    ("people who reacted", "people who reacted"),
    ("reactions told by the app", "... of which the app told"),
    (clicks.ANSWERED, "links followed, and sent on (302)"),
    (clicks.COUNTED, "... which count"),
    (clicks.KILLED, "... lost by a worker that was killed (-9)"),
    (clicks.TOLD, "... told as lost by a worker that had to end meanwhile"),
    (clicks.UNANSWERED, "links followed without an answer, which may count"),
    ("skipped: reacted", "steps skipped: the person had reacted"),
    ("skipped: importance", "steps skipped: the message was not worth it"),
    ("second legs billed", "second legs delivered and billed"),
    ("people who opted out", "people who opted out, by STOP or from e-mail"),
    ("people who turned out to be one", "pairs of people who turned out to be one"),
    ("provider has: viber", "Viber steps the provider has"),
    ("provider has: sms", "SMS steps the providers have"),
    ("provider has: sms, over SMPP", "... of which over SMPP"),
    ("provider has: sms, over SMPP in parts", "... of which in several parts"),
    ("provider has: push", "notifications the provider has"),
    ("provider has: email", "e-mails the provider has"),
    ("sent again by policy (code, answer lost)", "codes sent again, as policy says: answer lost"),
    (
        "campaign again: the first delivery was reported too late",
        "people reached again: the first delivery was reported after it had been given up",
    ),
    (
        "sent again by policy (provider did not know it)",
        "steps sent again after look-ups: the provider had not known them, and had them",
    ),
    (
        "asked for, not known, sent again",
        "steps looked up twice or more and sent again: the provider had not had them",
    ),
    ("receipts that came hours late", "receipts that came hours late"),
    ("double deliveries (late Viber)", "Viber delivered after its time, and SMS as well"),
    ("steps whose receipts were lost for good", "steps whose receipts were lost for good"),
    (
        "steps whose answer was lost where nobody can be asked",
        "steps that a provider has whose answer was lost, where nobody can be asked",
    ),
    ("bill, 1e-6 EUR", "the providers' bill, 1e-6 EUR"),
    ("ledger cost, 1e-6 EUR", "cost in the ledger, 1e-6 EUR"),
    ("unreported, 1e-6 EUR", "charged for those two, 1e-6 EUR"),
    ("billed, 1e-6 EUR", "billed to the app, 1e-6 EUR"),
)

INTRO = """# Reliability: what a storm of faults did

This page is written by `make chaos`, which anyone can run; no figure in it was typed. Real
processes (two `kaskad serve`, two `kaskad dispatch`, Redis with its append-only file and an fsync
on every write, the provider simulator with its durable book, a TCP proxy on every way between them)
are under load while a seeded script breaks them. The simulator is five providers: Viber and SMS
over HTTP, an SMSC over SMPP, a mail server over SMTP that reports by webhook, and FCM. The client
behaves: each message carries an idempotency key, and what was not decided is sent again with the
same key.

Marketing goes over Viber until it is seen, then as SMS where it is worth it; a fifth of the people
get everything over SMPP with SMS behind, another fifth as a notification, then by e-mail, then over
SMPP. People see, click and
write back, some of them STOP; campaigns are paused, resumed, cancelled, paced, or wait for their
send window; some messages are for later; users are stored, and named by their id alone, and of some
two it turns out in the middle that they are one person.

After each run, once nothing is left to happen, four accounts that were kept apart are held against
each other: what the client was told, what Redis holds, the ledger, the provider's own bill.

1. Every accepted message is final, Redis holds no other, and every other request was refused.
2. No step is at the provider twice, and no reference was in two requests, unless its answer was
   lost and policy says to send again; those are counted below. Nobody gets a campaign twice, or
   more than a cap allows, under any number or user that is known to be the same person's.
3. Each leg that was delivered is billed once, nothing else is; the totals are the sum of the
   ledger; each step's charge in the ledger is the provider's, to the last unit. For the numbers
   whose receipts the provider loses for good the difference is added up by step, and so it is for
   steps of SMPP and FCM whose answer was lost: an SMSC's receipt names an id that nobody told us,
   FCM sends none, and neither can be asked. Ledger plus difference is the bill. Claims and cap
   slots are those of the delivered messages; what a campaign counts is what there is; no lane,
   timer, held message, content or parked receipt is left, and what must lapse has a lifetime.
4. Who reacted gets no step that had not left, no reaction that was taken is forgotten, and nothing
   is sent of a campaign that has been paused or cancelled for 2 s, nor before its window opens. By
   the provider's book; what a dispatcher had claimed by then has left, and has 11 s to arrive.
5. No click counts twice, and each that was answered (302) counts, unless the worker that answered
   was killed (-9): then it lost the last that it had answered, and nothing before them. One that
   has to end while Redis takes no writes says how many it lost.
"""
HOW = """## How the less usual ones are made

- **Kill -9 of the provider**: the simulator writes down what it accepts before it answers, and is
  started again on that file. Its bill, its knowledge of messages and the receipts it owes survive.
- **Killed in the middle of a window**: a proxy kills the dispatcher once an SMSC has its PDUs, a
  mail server a whole mail or FCM a request, and before a byte of the answer; or once a receipt has
  come over the session. Of the SMSC's book each line is then a step's: by the id that the step was
  given, or, where its answer was lost, of the same phone and never more than answers were lost.
- **No token**: FCM's token endpoint is cut off while a dispatcher is killed; its successor has
  none.
- **Failover**: a replica is started under load. In order: Redis' own FAILOVER; the former master
  lives on as a read-only replica for whoever is still connected. Killed or hung: writes are stopped
  (CLIENT PAUSE), the replica catches up, the master is killed (-9) or stopped for good (SIGSTOP),
  the replica is promoted. All are reached at the same address as before.
- **Clocks**: each machine has its own, and the second one's is ahead all the time. A jump moves a
  machine's clock by 2 to 6 s while its processes run, and back some seconds later. Redis and the
  provider keep the true time, and Redis' is what Kaskad goes by.
- **Receipts hours late**: the provider keeps receipts back for four hours. When all else is over,
  Redis tells everybody that four hours went by, and it sends them: their messages had expired, had
  fallen back to SMS and been billed, or had failed. For what lapses in Redis they did not pass.
- {disk}
"""
DISKS = {
    "file system": (
        "**Disk full**: Redis is killed and started again on a file system of its own that holds\n"
        "  its files and 8 KiB more, so that it meets a really full disk; then it goes back."
    ),
    "limit": (
        "**Disk full**: this system allows no file system of its own, so Redis gets a limit on\n"
        "  the size of its file (RLIMIT_FSIZE) 8 KiB above what it has: it fails as on a full disk."
    ),
}
NOT_COVERED = """## What is not in it

- A failover that nobody prepared. Redis copies to replicas after it has answered: a master that
  dies with writes its replica does not have yet loses them, and Kaskad with it.
  `min-replicas-to-write` and `min-replicas-max-lag` bound how long that may go on unnoticed; they
  do not close the gap.
- Redis Cluster, which has a storm of its own: see [scaling.md](scaling.md).
- The loss of power: a kill leaves with the system what was written, and no disk is asked to prove
  its fsync.
- A receipt that comes after its message's record has lapsed (`retention.messages`), or after that
  of a provider's own id (seven days): the providers of this bench echo our reference. Such a
  receipt is parked and then dropped as one for an unknown id is, and those are in it.
"""


def write(outcomes: list[Outcome], rows: list[Row], long: list[LongOutcome]) -> Path:
    """Writes the page; returns where."""
    PAGE.write_text(text(outcomes, rows, long, _machine()))
    return PAGE


def text(outcomes: list[Outcome], rows: list[Row], long: list[LongOutcome], machine: str) -> str:
    """The page as Markdown."""
    faults = [fault for each in (*outcomes, *rows) for fault in each.faults]
    faults += [fault for one in long for fault in one.broken]
    messages = sum(one.messages for one in outcomes)
    seeds = ", ".join(str(one.seed) for one in outcomes)
    verdict = (
        "All hold: nothing lost, nothing billed twice, nothing sent twice outside policy."
        if not faults
        else f"**{len(faults)} assertions do not hold**; they are listed with their run."
    )
    parts = [
        INTRO,
        f"## Result\n\n{machine}\n\n{messages:,} messages, seeds {seeds}. {verdict}\n",
        *(_violations(f"Seed {one.seed}", one.faults) for one in outcomes if one.faults),
        *(_violations(f"Killed when: {row.point}", row.faults) for row in rows if row.faults),
        *(_violations(f"Long faults, seed {one.seed}", one.broken) for one in long if one.broken),
        _table_of_runs(outcomes),
        *page_long.sections(long, [Counter(one.counts) for one in outcomes]),
        _table_of_faults(outcomes),
        _table_of_crashes(rows),
        HOW.format(disk=DISKS[outcomes[0].disk_full_by]),
        NOT_COVERED,
    ]
    return "\n".join(parts)


def _violations(what: str, faults: list[str]) -> str:
    return f"{what}:\n\n" + "".join(f"- {fault}\n" for fault in faults)


def _table_of_runs(outcomes: list[Outcome]) -> str:
    rows = [
        ["requests", *(f"{one.messages:,}" for one in outcomes)],
        ["seconds, with the calm after it", *(f"{one.seconds:.0f}" for one in outcomes)],
        ["clock of the second machine, ms ahead", *(str(one.skew_ms) for one in outcomes)],
        ["faults injected", *(str(sum(one.injected.values())) for one in outcomes)],
        ["assertions that do not hold", *(str(len(one.faults)) for one in outcomes)],
    ]
    rows += [[name, *(f"{one.counts.get(key, 0):,}" for one in outcomes)] for key, name in TOLD]
    return "## Runs\n\n" + page_long.table(["", *(f"seed {one.seed}" for one in outcomes)], rows)


def never(outcomes: Sequence[Outcome]) -> list[str]:
    """What was asked for and did not come: faults, in no run, or in one that was long enough for
    all, by name; then whatever else a storm asks for."""
    found = {name for one in outcomes for name in one.asked}
    found -= {name for one in outcomes for name in one.injected}
    for one in outcomes:
        if one.load_s >= ALL_FAULTS_S:
            found |= set(one.asked) - set(one.injected)
    return [*sorted(found), *happenings.never(one.counts for one in outcomes)]


def _table_of_faults(outcomes: list[Outcome]) -> str:
    names = sorted({name for one in outcomes for name in (*one.asked, *one.injected)})
    rows = [[name, *(str(one.injected.get(name, 0)) for one in outcomes)] for name in names]
    head = ["fault", *(f"seed {one.seed}" for one in outcomes)]
    missing = never(outcomes)
    said = "Each of them came, and so did all else that a storm asks for."
    if missing:
        said = f"**These did not come as often as they must**: {', '.join(missing)}."
    return f"## Faults, and how often\n\n{said}\n\n" + page_long.table(head, rows)


def _table_of_crashes(rows: list[Row]) -> str:
    if not rows:
        return ""
    told = [
        [
            row.point,
            row.process,
            str(row.accepted),
            str(sum(n for name, n in row.counts.items() if name.startswith("final: "))),
            str(sum(n for name, n in row.counts.items() if name.startswith("sent again by"))),
            str(len(row.faults)),
        ]
        for row in rows
    ]
    head = ["killed when", "process", "accepted", "final", "sent again", "do not hold"]
    return (
        "## Killed exactly there\n\n"
        "The process is killed (SIGKILL) at the named moment of a message's life, its successor "
        "finds the rest in Redis,\nand the same assertions are checked.\n\n"
        + page_long.table(head, told)
    )


def _machine() -> str:
    now = datetime.datetime.now(datetime.UTC)
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    version = found[1] if found else "unknown"
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = f" ({told.stdout.strip()})" if told.returncode == 0 else ""
    cores = len(os.sched_getaffinity(0))
    return f"Kaskad {version}{commit}, {now:%Y-%m-%d %H:%M} UTC, {cores} cores."


def as_json(outcomes: list[Outcome], rows: list[Row], long: list[LongOutcome]) -> bytes:
    """The same for programs."""
    return msgspec.json.format(
        msgspec.json.encode({"runs": outcomes, "crashes": rows, "long": long})
    )
