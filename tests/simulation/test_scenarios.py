"""The scenarios of docs/scenarios.md do what the page says, and its tables are of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from gateway.core.money.money import format_amount, parse_amount
from gateway.core.records.message import Message, Step
from gateway.core.records.words import Importance
from providers.simulator import person_at
from tests.simulation.scenario_page import (
    BASELINE,
    PAGE,
    Played,
    audience_of,
    mark_of,
    play,
    rows_of,
    written,
)
from tests.simulation.season import SEED, phones_of

PEOPLE = 100
DAY_MS = 86_400_000
REACT_MS = 4 * 3_600_000
BY_IMPORTANCE = "Important things by SMS, the rest by Viber"
AT_ONCE = "SMS at once to those without a messenger"
NO_REACTION = "SMS to those who do not react"
BEST = "The most effective channel of each person"
BY_REACTION = "The cascade by reaction"


@pytest.fixture(scope="module")
def played() -> Mapping[str, Played]:
    return play(PAGE.read_text(), PEOPLE)


def steps(message: Message) -> dict[str, Step]:
    """What went out, by channel."""
    return {step.channel: step for step in message.steps if step.attempts}


def sent_ms(step: Step) -> int:
    return step.attempts[0].sent_ms


def reacted_ms(message: Message) -> Iterable[int]:
    for step in message.steps:
        yield from filter(None, (step.seen_ms, step.clicked_ms))


def test_the_tables_are_of_the_configurations_that_stand_there(
    played: Mapping[str, Played],
) -> None:
    page = PAGE.read_text()
    assert list(played) == [BASELINE, BY_IMPORTANCE, AT_ONCE, NO_REACTION, BEST, BY_REACTION]
    assert page.count("<!-- end ") == page.count(mark_of(page)) == 1 + len(played)


def test_a_tenth_of_the_audience_comes_to_about_the_same(played: Mapping[str, Played]) -> None:
    page = PAGE.read_text()
    there, here = rows_of(page), rows_of(written(page, played))
    assert list(there) == list(played)
    for name, cells in there.items():
        reached, by_sms, _, cost = cells
        here_reached, here_by_sms, _, here_cost = here[name]
        assert abs(here_reached - reached) <= 6, name
        assert abs(here_by_sms - by_sms) <= 6, name
        assert abs(here_cost - cost) <= 0.1 * cost, name


def test_what_is_booked_is_what_the_providers_charge(played: Mapping[str, Played]) -> None:
    for each in played.values():
        assert format_amount(sum(each.costs.values())) == format_amount(parse_amount(each.charged))


def test_nobody_who_reacted_gets_a_further_step(played: Mapping[str, Played]) -> None:
    for name, each in played.items():
        for message in each.messages:
            first_ms = min(reacted_ms(message), default=None)
            late = [s for s in steps(message).values() if first_ms and sent_ms(s) > first_ms]
            assert late == [], name


def test_who_wrote_stop_gets_nothing_more(played: Mapping[str, Played]) -> None:
    people = audience_of(PAGE.read_text())
    kind_of = {phone: person_at(SEED, people, phone).kind for phone in phones_of(PEOPLE)}
    wrote = {phone for phone, kind in kind_of.items() if kind.on["sms"].reply == "STOP"}
    assert wrote
    for each in played.values():
        assert not wrote & {message.addresses.phone for message in each.messages}


def test_every_scenario_pays_less_for_a_click_than_sms_to_everyone(
    played: Mapping[str, Played],
) -> None:
    base = played[BASELINE].total
    for name, each in played.items():
        if name != BASELINE:
            assert each.total.cost_a_click < base.cost_a_click, name


def test_important_things_go_by_sms_and_the_rest_by_viber(played: Mapping[str, Played]) -> None:
    for message in played[BY_IMPORTANCE].messages:
        important = message.importance == Importance.HIGH
        assert set(steps(message)) == {"sms" if important else "viber"}


def test_who_has_no_messenger_gets_the_sms_at_once(played: Mapping[str, Played]) -> None:
    tried_ms: dict[str, int] = {}
    spared = 0
    for message in played[AT_ONCE].messages:
        phone = message.addresses.phone or ""
        viber, sms = message.steps
        if viber.fault is not None and viber.fault.code == "not_reachable":
            spared += 1
            assert sent_ms(sms) == message.created_ms
        elif viber.latest_fault is not None and viber.latest_fault.code == "7002":
            assert message.created_ms - tried_ms.get(phone, 0) >= 30 * DAY_MS
            tried_ms[phone] = message.created_ms
    assert spared > len(tried_ms) > 0


def test_sms_follows_where_nobody_reacted_in_time(played: Mapping[str, Played]) -> None:
    followed = 0
    for message in played[NO_REACTION].messages:
        viber, sms = message.steps
        if not viber.delivered_ms:
            continue
        in_time = any(ms <= viber.delivered_ms + REACT_MS for ms in reacted_ms(message))
        hidden = viber.hidden
        assert ("sms" in steps(message)) == (not in_time and not hidden)
        if "sms" in steps(message):
            followed += 1
            assert (viber.leg, sms.leg) == (0, 1)
    assert followed > 0


def test_each_person_gets_its_own_channel_first(played: Mapping[str, Played]) -> None:
    first = {message.steps[0].channel for message in played[BEST].messages}
    assert first == {"viber", "sms"}
    for message in played[BEST].messages:
        arrived = [step for step in message.steps if step.delivered_ms]
        assert len(arrived) <= 1 or message.importance == Importance.HIGH


def test_the_cascade_by_reaction_keeps_sms_for_what_is_important(
    played: Mapping[str, Played],
) -> None:
    for message in played[BY_REACTION].messages:
        if "sms" in steps(message):
            assert message.importance == Importance.HIGH
    important = played[BY_REACTION].figures(Importance.HIGH)
    assert important.reached > 0.95 * important.messages
