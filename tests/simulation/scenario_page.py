"""What each scenario of docs/scenarios.md reaches and costs: writes the tables of that page.

    python -m tests.simulation.scenario_page       in a minute

The page holds each configuration once, and the audience: blocks of TOML below a comment that names
them. A configuration is what differs from the shipped one. It is played to the audience for a
season (`tests.simulation.season`); the same seed gives the same tables. The page says of which
configurations its tables are (`mark_of`).
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gateway.core.records.message import Message
from gateway.core.records.words import Importance
from gateway.settings.file import Settings, load
from providers.simulator import People, read_people
from tests.simulation.season import Season, Wave
from tests.worlds.toml_text import merged, toml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "scenarios.md"
SHIPPED = ROOT / "config" / "kaskad.toml"
SIZE = 1_000
BASELINE, LEARNED_BY = "SMS to everyone", "The most effective channel of each person"
IMPORTANT = "important"  # the route of important campaigns, where a configuration has one
BEFORE = [Wave(f"before-{n}", 7 * n, route=("viber-only", "sms-only")[n % 2]) for n in range(8)]
WAVES, FIRST_DAY, GAP_DAYS, IMPORTANT_EVERY = 12, 70, 14, 4
SECRETS = {"INFOBIP_API_KEY": "key", "INFOBIP_CALLBACK_TOKEN": "token"}

AGAINST = ("against SMS: clicks", "cost", "a click costs")

_BLOCK = re.compile(r"<!-- (audience|scenario: ([^\n]+)) -->\n```toml\n(.*?)```\n", re.DOTALL)
_FIGURES = re.compile(r"(<!-- figures: ([^\n]+) -->\n).*?<!-- end[^\n]* -->\n", re.DOTALL)


class Figures(msgspec.Struct):
    """What came of some messages; `cost` is in 1e-6 currency units, `spared` counts those that did
    not go to a channel where their person is not reached."""

    messages: int = 0
    reached: int = 0
    by_sms: int = 0
    spared: int = 0
    seen: int = 0
    clicked: int = 0
    cost: int = 0

    @property
    def cost_a_click(self) -> float:
        return self.cost / self.clicked / 1e6


class Played(msgspec.Struct, frozen=True):
    """A season by one configuration."""

    messages: list[Message]
    costs: Mapping[str, int]
    charged: str  # what the providers' own bill comes to

    def figures(self, *importances: int) -> Figures:
        """Of the messages of these importances."""
        sums = Figures()
        for message in self.messages:
            if message.importance in importances:
                sums.messages += 1
                sums.reached += message.delivered_step >= 0
                sums.by_sms += any(s.channel == "sms" and s.attempts for s in message.steps)
                sums.spared += any(
                    s.fault is not None and s.fault.code == "not_reachable" for s in message.steps
                )
                sums.seen += any(step.seen_ms for step in message.steps)
                sums.clicked += any(step.clicked_ms for step in message.steps)
                sums.cost += self.costs[message.id]
        return sums

    @property
    def total(self) -> Figures:
        return self.figures(*Importance)


def scenarios_of(page: str) -> dict[str, dict[str, Any]]:
    """By name, what each configuration of the page says."""
    return {name: tomllib.loads(text) for _, name, text in _BLOCK.findall(page) if name}


def audience_of(page: str) -> list[People]:
    """The kinds of people that the page states."""
    (text,) = [text for kind, _, text in _BLOCK.findall(page) if kind == "audience"]
    return read_people(text)


def configured(scenario: Mapping[str, Any]) -> Settings:
    """The shipped configuration with that of a scenario over it."""
    document = merged(tomllib.loads(SHIPPED.read_text()), scenario)
    document["prices"]["file"] = str(SHIPPED.parent / document["prices"]["file"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kaskad.toml"
        file.write_text(toml(document))
        return load(file, SECRETS, secrets_required=False)


def mark_of(page: str) -> str:
    """What stands below the tables that were made of the page's blocks."""
    blocks = "".join(text for _, _, text in _BLOCK.findall(page))
    return f"<!-- end {hashlib.sha256(blocks.encode()).hexdigest()[:12]} -->"


def play(page: str, size: int) -> dict[str, Played]:
    """A season by each configuration to so many people, after the same weeks in which everybody got
    to be known."""
    people = audience_of(page)
    settings = {name: configured(scenario) for name, scenario in scenarios_of(page).items()}
    before = Season(settings[LEARNED_BY], people, size)
    before.play(BEFORE)
    played = {}
    for name, each in settings.items():
        season = Season(each, people, size, before)
        messages = season.play(list(_waves(each)))
        (charged,) = season.exchange.book.bill(limit=0).charge.values()
        played[name] = Played(messages, season.costs, charged)
    return played


def _waves(settings: Settings) -> Iterator[Wave]:
    for number in range(WAVES):
        day, route = FIRST_DAY + number * GAP_DAYS, None
        if important := number % IMPORTANT_EVERY == IMPORTANT_EVERY - 1:
            route = IMPORTANT if IMPORTANT in settings.routes else None
        importance = Importance.HIGH if important else Importance.NORMAL
        yield Wave(f"wave-{number}", day, importance, route)


def rows_of(page: str) -> dict[str, list[float]]:
    """By scenario, the first figures of the page's table of all: per cent reached, per cent by SMS,
    clicks and cost of 1,000 messages."""
    (body,) = [found[0] for found in _FIGURES.finditer(page) if found[2] == "all"]
    rows = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| ")]
    return {name: [float(cell.rstrip(" %")) for cell in cells[:4]] for name, *cells in rows[1:]}


def written(page: str, played: Mapping[str, Played]) -> str:
    """The page with its tables made anew."""
    mark = mark_of(page)

    def table(found: re.Match[str]) -> str:
        head, name = found[1], found[2]
        lines = _all(played) if name == "all" else _one(played[name])
        return "\n".join([head.rstrip(), *lines, mark, ""])

    return _FIGURES.sub(table, page)


def _all(played: Mapping[str, Played]) -> Iterator[str]:
    """One row a scenario, held against SMS to everyone."""
    base = played[BASELINE].total
    yield from _head(
        "", "reached", "by SMS", "clicks of 1,000", "EUR for 1,000", "EUR a click", *AGAINST
    )
    for name, each in played.items():
        sums = each.total
        ours, theirs = (_thousandth(s.clicked, s) for s in (sums, base))
        against = (
            _change(ours, theirs),
            _change(sums.cost, base.cost),
            _change(sums.cost_a_click, base.cost_a_click),
        )
        yield _row(
            name,
            _percent(sums.reached, sums),
            _percent(sums.by_sms, sums),
            f"{ours:.0f}",
            f"{_thousandth(sums.cost, sums) / 1e6:.2f}",
            f"{sums.cost_a_click:.2f}",
            *(("", "", "") if name == BASELINE else against),
        )


def _one(played: Played) -> Iterator[str]:
    """Important messages and the others of one scenario."""
    yield from _head(
        "", "messages", "reached", "by SMS", "Viber spared", "seen", "clicks", "cost, EUR"
    )
    for name, importance in (("important", Importance.HIGH), ("others", Importance.NORMAL)):
        sums = played.figures(importance)
        shares = [sums.reached, sums.by_sms, sums.spared, sums.seen]
        yield _row(
            name,
            f"{sums.messages:,}",
            *(_percent(count, sums) for count in shares),
            str(sums.clicked),
            f"{sums.cost / 1e6:.2f}",
        )


def _thousandth(count: int, of: Figures) -> float:
    return 1_000 * count / of.messages


def _percent(count: int, of: Figures) -> str:
    return f"{100 * count / of.messages:.0f} %"


def _change(ours: float, theirs: float) -> str:
    return f"{100 * ours / theirs - 100:+.0f} %"


def _head(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield f"|{'---|' * len(cells)}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    page = PAGE.read_text()
    PAGE.write_text(written(page, play(page, SIZE)))


if __name__ == "__main__":
    main()
