"""How the acts look on a terminal. Pure; it decides nothing."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE
from rich.console import RenderableType
from rich.table import Table

from gateway.core.channels import label_of
from gateway.demo.acts import Act, OwnOrder, PauseShown, Reactions, WayOutcome, Window
from gateway.demo.reach import ReachShown


def drawn(act: Act) -> Iterator[RenderableType]:
    """The act's title, what it shows, and a blank line."""
    match act:
        case Reactions():
            yield from _reactions(act)
        case OwnOrder():
            yield from _own_order(act)
        case Window():
            yield from _window(act)
        case PauseShown():
            yield from _pause(act)
        case ReachShown():
            yield from _reach(act)
    yield ""


def _reactions(act: Reactions) -> Iterator[RenderableType]:
    first, second = label_of(act.steps[0]), label_of(act.steps[-1])
    yield f"[bold]{first} until it is seen, then {second} for what is important[/bold]"
    table = _table("", "Important", "Others")
    for outcome in act.outcomes:
        table.add_row(_told(outcome, first, second), str(outcome.important), str(outcome.others))
    yield table


def _told(outcome: WayOutcome, first: str, second: str) -> str:
    came = {
        "seen": f"Seen on {first}",
        "unseen": f"Not seen on {first} in time",
        "unreached": f"Not reached on {first}",
    }[outcome.first]
    return f"{came}: {f'{second} follows' if outcome.second else 'nothing more'}"


def _own_order(act: OwnOrder) -> Iterator[RenderableType]:
    own = [step.channel for step in act.steps]
    written, hers = (", then ".join(map(label_of, names)) for names in (act.written, own))
    yield f"[bold]A person's own order: {hers}[/bold], where the route says {written}"
    table = _table("", "Delivered", "Clicked", "")
    for step in act.steps:
        known = (str(step.exposures), str(step.reactions))
        table.add_row(label_of(step.channel), *known, step.why)
    table.columns[-1].justify = "left"
    yield table


def _window(act: Window) -> Iterator[RenderableType]:
    yield "[bold]A send window, from 09:00 to 21:00 by the recipient's clock[/bold]"
    table = _table("", "There it is", "")
    table.add_row(act.awake, act.awake_clock, act.awake_status)
    held = f"held until {act.held_until_clock} ({act.held_reason})"
    table.add_row(act.asleep, act.asleep_clock, held)
    table.columns[-1].justify = "left"
    yield table


def _pause(act: PauseShown) -> Iterator[RenderableType]:
    yield "[bold]A pause and a resume[/bold]"
    yield (
        f"  Paused, a campaign of {act.messages}: {act.held} held, {act.sent_meanwhile} sent. "
        f"Resumed: {act.delivered} delivered after {act.seconds:.1f} s.\n"
        "  The campaign has the words, and each message brought its code."
    )


def _reach(act: ReachShown) -> Iterator[RenderableType]:
    *labels, last = map(label_of, act.costs)
    channels = f"{', '.join(labels)} and {last}"
    yield f"[bold]One route over {channels}[/bold], by the addresses that are known"
    table = _table("", *labels, last, "None", act.currency)
    for each in act.people:
        counts = map(str, (*each.reached.values(), each.nowhere))
        table.add_row(", ".join(each.addresses), *counts, each.cost)
    table.add_row(f"Cost, {act.currency}", *act.costs.values(), "", act.cost)
    for column in table.columns:
        column.no_wrap = True
    yield table


def _table(*heads: str) -> Table:
    table = Table(*heads, box=SIMPLE, pad_edge=True, show_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    return table
