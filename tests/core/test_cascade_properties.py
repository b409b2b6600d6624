"""What holds for a message whatever happens to it, in whatever order, as properties."""

from __future__ import annotations

import random
from collections import defaultdict
from decimal import Decimal
from itertools import chain
from typing import Literal

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core import events, timing
from gateway.core.campaigns.campaigns import Campaign, CampaignState, Declared
from gateway.core.campaigns.send_windows import opening_ms
from gateway.core.channels import Until
from gateway.core.explain import explain_message
from gateway.core.people.opt_outs import EVERY_CHANNEL, NONE, refuses
from gateway.core.policy import AWAY_LOOK_MIN_MS, SENDING_LIMIT_MS, Policy, RouteStep
from gateway.core.records.codec import LOOSE
from gateway.core.records.message import (
    ACCEPTED,
    MESSAGE_NAMES,
    OPEN,
    STEP_NAMES,
    Step,
    StepStatus,
)
from gateway.core.records.message_codec import pack_message
from gateway.core.timeline import timeline
from providers.contract import Fault, Receipt, ReceiptStatus
from ratelimit.caps import Cap
from tests.worlds.cascade_world import DAY, DAYTIME, MINUTE, T0, World, policy, request

CAPS = (Cap("day", 2, DAY, "1d", "marketing", None), Cap("sms", 1, DAY, "1d", None, "sms"))
PROVIDERS = ("viber", "sms", "viber-2")
STAND_IN = "viber-3"  # of the first step's provider, in some routes
UNTIL: tuple[Until, ...] = ("delivered", "seen", "clicked")
FAULT = Fault("9", "SOMETHING", False)
STEPS = st.integers(0, 2)
RECEIPTS = st.builds(
    Receipt,
    status=st.sampled_from(["sent", "delivered", "seen", "undelivered", "expired", "rejected"]),
    # None, free, two that may be, and one that cannot.
    cost=st.sampled_from([None, Decimal(0), Decimal("0.03"), Decimal("0.061"), Decimal(99)]),
    currency=st.sampled_from(["EUR", "EUR", "EUR", "USD", None]),
    # Right or wrong, it changes nothing but how many looks the store needs.
    to=st.sampled_from([None, "79160000001", "79160000002", "70000000000"]),
)
SERIES = st.sampled_from([0, 0, 1, 2, 3])
WHO_IS_AWAY = st.frozensets(st.sampled_from((*PROVIDERS, STAND_IN)))
AWAY = st.dictionaries(
    st.sampled_from(PROVIDERS), st.sampled_from([T0, T0 + 2_000, T0 + 20 * MINUTE])
)
EVENTS = st.one_of(
    st.builds(
        events.Claimed,
        st.integers(events.CURRENT, 2),
        st.sampled_from([{}, {}, {}, {EVERY_CHANNEL: "all"}, {"viber": "all"}, {"sms": "all"}]),
        away=st.just(frozenset()) | WHO_IS_AWAY,
    ),
    st.builds(
        events.Accepted,
        STEPS,
        st.sampled_from([None, "theirs"]),
        again=st.booleans(),
        series=st.none() | SERIES,
    ),
    st.builds(
        events.StepRefused,
        STEPS,
        st.sampled_from([FAULT, Fault("7002", "NOBODY", True)]),
        away=WHO_IS_AWAY,
    ),
    st.builds(events.StepNotSent, STEPS, st.just(FAULT), WHO_IS_AWAY),
    st.builds(events.PutBack, STEPS),
    st.builds(events.LostAnswer, STEPS),
    st.builds(
        events.LooseParts,
        STEPS,
        st.lists(st.sampled_from(["theirs", "a", "b"]), min_size=1, max_size=2).map(tuple),
        SERIES,
    ),
    st.builds(events.NotKnown, STEPS, WHO_IS_AWAY),
    st.builds(
        lambda step, receipt, provider, series: events.Reported(
            step, receipt, provider or PROVIDERS[step], series
        ),
        STEPS,
        RECEIPTS,
        st.sampled_from([None, None, STAND_IN]),
        SERIES,
    ),
    st.builds(
        lambda step, id_, series, part: events.Reported(
            step, Receipt("delivered", provider_id=id_), PROVIDERS[step], series, part
        ),
        STEPS,
        st.sampled_from(["theirs", "a", "b"]),
        SERIES,
        st.sampled_from(["of_whole", "loose"]),
    ),
    st.builds(events.Replied, STEPS, st.sampled_from([T0, T0 + 60_000])),
    st.builds(events.Reacted, STEPS, st.sampled_from(["seen", "replied", "clicked"]), st.just(T0)),
    st.builds(
        events.Converted,
        st.integers(1, 3),
        st.just(T0),
        st.sampled_from([0, 5_000_000, -1_000_000]),
        st.booleans(),
        st.integers(-1, 2),
        st.lists(STEPS, max_size=1).map(tuple),
    ),
    st.builds(events.ProviderGone, st.sampled_from((*PROVIDERS, STAND_IN))),
    st.builds(events.TimerDue, AWAY),
    st.just(events.Cancelled()),
    st.builds(
        events.Invoiced,
        STEPS,
        st.sampled_from([0, 0, 1]),
        st.sampled_from((*PROVIDERS, STAND_IN)),
        st.sampled_from([0, 5_000, 30_000]),
        st.just("november.csv"),
        st.just("2026-11-01 2026-11-30"),
    ),
)
# ... and what providers say of the person, which the store's model knows nothing of.
NOBODY = Fault("7002", "NOBODY", True)
HAPPENED = st.one_of(
    EVENTS,
    st.builds(events.StepRefused, STEPS, st.just(NOBODY), st.just(True)),
    st.builds(
        lambda step, receipt: events.Reported(step, receipt, PROVIDERS[step]),
        STEPS,
        st.builds(
            Receipt,
            status=st.sampled_from(["undelivered", "rejected"]),
            fault=st.just(NOBODY),
            unreachable=st.just(True),
        ),
    ),
)
WAITS = st.sampled_from([0, 1, 2_000, 20_000, 16 * 60_000, 25 * 3_600_000])
LIVES = st.lists(st.tuples(HAPPENED, WAITS), max_size=25)
STATES: tuple[CampaignState, ...] = ("running", "paused", "paused", "cancelled")
HELD_LIVES = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(STATES), st.builds(events.Released, st.booleans()), HAPPENED, HAPPENED
        ),
        WAITS,
    ),
    max_size=25,
)
FIRST = st.sampled_from([("viber",), ("viber", STAND_IN), (STAND_IN, "viber")])
SAID = st.lists(
    st.tuples(st.sampled_from(UNTIL), st.sampled_from([1_000, 20_000, 4 * 3_600_000])),
    min_size=2,
    max_size=3,
)
ROUTES = st.builds(
    lambda first, said: tuple(
        RouteStep(names, wait_ms, 10_000, until, react_ms)
        for names, wait_ms, (until, react_ms) in zip(
            (first, ("sms",), ("viber-2",)), (15 * MINUTE, DAY, DAY), said, strict=False
        )
    ),
    FIRST,
    SAID,
)
WORLDS = st.builds(
    lambda charged_on, resend, when_away, category, route, ttl, steps: World(
        policy(
            caps=CAPS,
            charged_on=charged_on,
            resend_unknown=resend,
            when_away=when_away,
            steps=steps,
        ),
        request(category=category, route=route, ttl_ms=ttl),
    ),
    st.sampled_from(["delivered", "sent"]),
    st.booleans(),
    st.sampled_from(["skip", "wait", "hold"]),
    st.sampled_from(["otp", "transactional", "marketing"]),
    st.sampled_from([None, "sms-only", "viber-only"]),
    st.sampled_from([None, 5_000, 3_600_000]),
    st.none() | ROUTES,
)
# A timer that changes nothing comes back after a minute at the earliest. Sooner, of two steps each:
# the four look-ups below a minute after each of three losses, and the ends of eight states.
TIMERS_MAX = 3 * DAY // AWAY_LOOK_MIN_MS + 3 * (4 * 3 + 8)
BACK = {StepStatus.QUEUED, StepStatus.RETRYING}


def live(world: World, life: list[tuple[events.Event, int]]) -> None:
    for event, wait_ms in life:
        world.now_ms += wait_ms
        before = [step.status for step in world.message.steps]
        reaction = world.message.reaction
        finished = world.message.finished
        delivered = world.message.delivered_step
        invoiced = charges_invoiced(world)
        effects = world.happen(event)
        if not isinstance(event, events.Invoiced):
            assert charges_invoiced(world) == invoiced, "nothing changes what an invoice charges"
        waits = world.message.delivered_step >= 0 and not world.message.finished
        for was, step in zip(before, world.message.steps, strict=True):
            went_back = was in (StepStatus.SENDING, StepStatus.UNKNOWN) and step.status in BACK
            recovered = was == StepStatus.UNKNOWN and step.status == StepStatus.SENT
            again = was == StepStatus.RETRYING and step.status == StepStatus.QUEUED
            not_yet = step.status == StepStatus.PLANNED and waits
            assert step.status >= was or went_back or recovered or again or not_yet
            assert_in_time(world, step)
        if effects.submit:
            assert not getattr(event, "away", False), "nothing is sent to one that is away"
            step = world.message.step
            assert not any(a.doubt for a in step.attempts[:-1]), "another may have sent it"
            unwanted = getattr(event, "opt_outs", NONE)
            assert not refuses(unwanted, step.channel, world.message.category)
            left_ms = timing.deadline_ms(world.message, step) - world.now_ms
            assert 0 < left_ms <= step.wait_ms
            assert not finished
            assert not reaction, "who reacted gets no further step that had not left"
            assert delivered < 0 or world.now_ms >= timing.react_end_ms(
                world.message, world.now_ms
            ), "somebody may still react"
            assert world.now_ms < world.message.expires_ms
        if finished:
            assert world.message.finished
        check(world)


def charges_invoiced(world: World) -> dict[tuple[int, int], int | None]:
    """What accepted invoices charge, by step and attempt."""
    return {
        (index, number): attempt.charged
        for index, step in enumerate(world.message.steps)
        for number, attempt in enumerate(step.attempts)
        if attempt.invoiced
    }


def assert_in_time(world: World, step: Step) -> None:
    """What a step used of its wait is bounded, and its clock never runs ahead of time."""
    assert step.clock.used_ms >= 0
    assert step.clock.since_ms <= world.now_ms


def check(world: World) -> None:
    message, sums = world.message, world.sums()
    check_legs(world)
    assert sums["billed"] == (message.billed or 0)
    assert sums["cost"] == sum(step.charged or 0 for step in message.steps)
    arrived = sum(step.arrival_of(a) > 0 for step in message.steps for a in step.attempts)
    assert sums["delivered"] + sums["double_delivered"] == arrived
    ended = sum(bool(s.done_ms) and s.status < StepStatus.DELIVERED for s in message.steps)
    capped = sum(
        s.status == StepStatus.SKIPPED and s.fault is not None and s.fault.code == "frequency_cap"
        for s in message.steps
    )
    assert sums["undelivered"] == ended - capped
    assert message.finished or message.due_ms > 0, "a live message always has a timer"
    current = message.steps[message.current]
    out = current.status in OPEN and not current.done_ms
    assert world.held() == (not message.finished or message.delivered_step >= 0 or out)
    assert message.holds == world.held()
    check_told(world)


def check_told(world: World) -> None:
    """The timeline names each status that was reached, within the message's life and in order."""
    message, told = world.message, timeline(world.message)
    moments = [each.at_ms for each in told]
    assert told[0].event == "accepted"
    assert moments == sorted(moments)
    assert message.created_ms <= moments[-1] <= world.now_ms
    for index, step in enumerate(message.steps):
        events_of = {each.event for each in told if each.step == index}
        status = STEP_NAMES[step.status]
        assert status == "queued" or status in events_of
    ended = {each.event for each in told if each.step is None} - {"accepted"}
    assert ended == {"ended"} or ended <= {MESSAGE_NAMES[message.status]}
    planned = explain_message(message, world.policy, world.now_ms).plan
    assert [each.verdict == "skip" for each in planned] == [
        step.status == StepStatus.SKIPPED for step in message.steps
    ]


def check_legs(world: World) -> None:
    """Each leg bills its first delivery and no other, and holds a slot while it may be needed."""
    message, sums = world.message, world.sums()
    arrived: defaultdict[int, list[Step]] = defaultdict(list)
    for step in message.steps:
        if step.arrived:
            arrived[step.leg].append(step)
    billing = [[s for s in steps if s.billed is not None] for steps in arrived.values()]
    assert all(len(steps) == 1 for steps in billing)
    assert all(step.billed == step.sell * step.parts for steps in billing for step in steps)
    assert sums["delivered"] == len(arrived)
    assert sums["billed"] == sum(step.billed or 0 for step in message.steps)
    for kind in ("seen", "clicked"):
        reacted = [s for s in message.steps if getattr(s, f"{kind}_ms")]
        assert sums[kind] == len(reacted)
        assert all(step.arrived for step in reacted)
    if not message.awaits:
        assert len(arrived) <= 1, "no message without a second leg bills twice"
    if message.reaction:
        assert message.finished
    if message.category in world.policy.slot_ms and message.holds:
        legs = {slot.leg for slot in world.person.slots if slot.message == message.id}
        assert legs >= arrived.keys()
        if message.closed:
            assert legs == arrived.keys()


@given(WORLDS, LIVES)
@settings(max_examples=400)
def test_the_invariants_hold_after_every_event(
    world: World, life: list[tuple[events.Event, int]]
) -> None:
    live(world, life)


@given(WORLDS, LIVES, LIVES)
@settings(max_examples=200)
def test_the_invariants_hold_when_nothing_of_the_configuration_is_left(
    world: World, life: list[tuple[events.Event, int]], rest: list[tuple[events.Event, int]]
) -> None:
    live(world, life)
    held = world.held()
    world.policy = replace(
        world.policy, providers={}, routes={}, categories={}, caps=(), slot_ms={}
    )
    for event, wait_ms in rest:
        world.now_ms += wait_ms
        world.happen(event)
        assert world.message.finished or world.message.due_ms > 0
    assert held or not world.held() or world.message.campaign is not None
    while world.message.due_ms:
        world.timer()
    assert world.message.closed


@given(WORLDS, LIVES)
# A millisecond of its time is left when its claim is lost: it was looked at each millisecond.
@example(World(policy(resend_unknown=True, when_away="wait")), [(events.Claimed(0), 1)])
@settings(max_examples=200)
def test_timers_alone_bring_every_message_to_its_end(
    world: World, life: list[tuple[events.Event, int]]
) -> None:
    live(world, life)
    timers_alone_end(world)


@given(WORLDS, HELD_LIVES, st.booleans())
@settings(max_examples=300)
def test_what_is_held_or_cancelled_starts_nothing_and_comes_to_its_end(
    world: World, life: list[tuple[events.Event | CampaignState, int]], by_day: bool
) -> None:
    state: CampaignState = "running"
    world.policy = with_campaign(world.policy, state, by_day=by_day)
    for happened, wait_ms in life:
        world.now_ms += wait_ms
        if isinstance(happened, str):
            state = state if state == "cancelled" else happened
            world.policy = with_campaign(world.policy, state, by_day=by_day)
            continue
        sent = len(world.submitted)
        live(world, [(happened, 0)])
        if len(world.submitted) > sent:
            assert state == "running"
            assert not by_day or opening_ms(DAYTIME, None, None, "", world.now_ms) == world.now_ms
    timers_alone_end(world)


def timers_alone_end(world: World) -> None:
    for _ in range(TIMERS_MAX):
        if not world.message.due_ms:
            break
        world.timer()
    assert world.message.closed
    check(world)


def with_campaign(rules: Policy, state: CampaignState, *, by_day: bool) -> Policy:
    declared = Declared({"autumn": Campaign(state=state)})
    window = DAYTIME if by_day else None
    categories = {n: replace(rule, send_window=window) for n, rule in rules.categories.items()}
    return replace(rules, declared=declared, categories=categories)


@given(WORLDS, LIVES, AWAY)
@settings(max_examples=200)
def test_a_step_whose_clock_runs_is_over_in_its_time(
    world: World, life: list[tuple[events.Event, int]], away: dict[str, int]
) -> None:
    """Sent or not, refused, lost or put back, its provider away or up: its timers fire on time."""
    first = world.message.steps[0]
    end_ms = min(T0 + first.wait_ms, world.message.expires_ms) + first.grace_ms + SENDING_LIMIT_MS
    for event, wait_ms in life:
        until_ms = world.now_ms + wait_ms
        while 0 < world.message.due_ms <= until_ms:
            world.timer(away)
        world.now_ms = until_ms
        world.happen(event)
        # A clock that was ever stopped, for a provider that is away, has a moment of its own.
        runs = world.message.category != "marketing" and first.clock == ACCEPTED
        ended = first.status >= StepStatus.SKIPPED or first.done_ms
        assert ended or not runs or world.now_ms <= end_ms


@given(
    st.lists(RECEIPTS, min_size=1, max_size=6),
    st.randoms(use_true_random=False),
    st.sampled_from(["delivered", "sent"]),
    st.sampled_from(["undelivered", "expired", "rejected"]),
)
@settings(max_examples=200)
def test_the_order_and_number_of_receipts_do_not_matter(
    receipts: list[Receipt], order: random.Random, charged_on: str, failure: str
) -> None:
    kinds = {"undelivered": failure, "expired": failure, "rejected": failure}
    known = [
        Receipt(status=kinds.get(r.status, r.status), cost=r.cost, currency=r.currency)  # type: ignore[arg-type]
        for r in receipts
    ]
    outcomes = []
    shuffled = known * 2
    order.shuffle(shuffled)
    for sequence in (known, shuffled):
        world = World(policy(charged_on=charged_on), request(route="sms-only"))
        world.send()
        for receipt in sequence:
            world.happen(events.Reported(0, receipt, "sms"))
        step = world.message.steps[0]
        booked = {k: v for k, v in world.sums().items() if v}
        outcomes.append((step.status, step.charged, world.message.status, booked))
    assert outcomes[0] == outcomes[1]


TOLD: list[tuple[ReceiptStatus, int]] = [
    *(("delivered", 1), ("seen", 2), ("seen", 4)),
    *(("delivered", 3), ("sent", 0), ("expired", 5)),
]


@given(st.permutations(TOLD))
def test_when_it_arrived_and_was_seen_is_known_in_whatever_order_it_is_told(
    told: list[tuple[ReceiptStatus, int]],
) -> None:
    world = World(send=request(route="viber-only"))
    world.send()
    world.now_ms += 5 * MINUTE
    for status, minutes in told:
        receipt = Receipt(status, at_ms=T0 + minutes * MINUTE)
        world.happen(events.Reported(0, receipt, "viber"))
    step = world.message.steps[0]
    known = [step.delivered_ms, step.done_ms, step.seen_ms]
    assert known == [T0 + minutes * MINUTE for minutes in (1, 1, 2)]


def test_a_life_starts_at_the_first_moment() -> None:
    world = World()
    assert world.message.created_ms == T0
    check(world)


PART_IDS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True).map(tuple)
BESIDE: st.SearchStrategy[events.Event] = st.sampled_from(
    (
        events.LostAnswer(0),
        events.StepRefused(0, NOBODY),
        events.TimerDue(),
        events.Invoiced(0, 0, "sms", 7_000, "november.csv", "2026-11-01 2026-11-30"),
    )
)


@given(
    st.lists(PART_IDS, max_size=4),
    st.none() | PART_IDS,
    st.lists(BESIDE, max_size=3),
    st.randoms(use_true_random=False),
)
@settings(max_examples=300)
def test_parts_cost_once_in_whatever_order_and_number_they_are_told(
    taken: list[tuple[str, ...]],
    whole: tuple[str, ...] | None,
    beside: list[events.Event],
    order: random.Random,
) -> None:
    """Of texts that were refused or lost, beside one that was taken as a whole, or none."""
    told = [*beside, *(events.LooseParts(0, ids, 0) for ids in taken * 2)]
    if whole is not None:
        told += [events.Accepted(0, whole[0], further_ids=whole[1:])] * 2
    order.shuffle(told)
    world = World(policy(charged_on="sent"), request(route="sms-only"))
    world.happen(events.Claimed(0))
    for event in told:
        world.happen(event)
    loose = {id_ for ids in taken for id_ in ids} - set(whole or ())
    expected = 40_000 * (len(loose) + (whole is not None))
    if any(isinstance(event, events.Invoiced) for event in beside):
        expected = 7_000
    assert world.sums()["cost"] == (world.message.steps[0].charged or 0) == expected
    assert world.sums()["billed"] == 0


@given(
    st.lists(st.sampled_from("abc"), max_size=5),
    st.lists(st.sampled_from("de"), max_size=2),
    st.lists(st.sampled_from(["undelivered", "expired", "delivered"]), max_size=2),
    st.randoms(use_true_random=False),
)
@settings(max_examples=300)
def test_parts_that_arrive_cost_once_in_whatever_order_and_never_beside_their_text(
    arrived: list[str], loose: list[str], whole: list[ReceiptStatus], order: random.Random
) -> None:
    def part(id_: str, of: Literal["of_whole", "loose"]) -> events.Event:
        return events.Reported(0, Receipt("delivered", provider_id=id_), "sms", 0, of)

    told = [part(id_, "of_whole") for id_ in arrived * 2]
    told += [part(id_, "loose") for id_ in loose * 2]
    told += [events.Reported(0, Receipt(status), "sms") for status in whole]
    told += [events.Accepted(0, "a", further_ids=("b", "c"))] * 2
    order.shuffle(told)
    world = World(policy(), request(route="sms-only"))
    world.happen(events.Claimed(0))
    for event in told:
        world.happen(event)
        check(world)
    while world.message.due_ms:
        world.timer()
    of_text = 1 if "delivered" in whole else len(set(arrived))  # the world's text is one part
    assert world.sums()["cost"] == 40_000 * (of_text + len(set(loose)))
    assert world.sums()["delivered"] == ("delivered" in whole)
    # Once the whole is charged the record is one that any process may change.
    of_parts = bool(loose or (arrived and "delivered" not in whole))
    assert (pack_message(world.message)[0] == LOOSE) == of_parts


class SentAgain:
    """A code that is sent again when an answer was lost, by who knows no message again. After each
    word of the provider's it must cost what its references cost of which a charge is known."""

    def __init__(
        self, charged_on: Literal["sent", "delivered"], arrives: list[bool], *, answers_late: bool
    ) -> None:
        rules = policy(
            charged_on=charged_on,
            can_look_up=False,
            answers_late=answers_late,
            resend_unknown=True,
        )
        self.world = World(rules, request(category="otp", route="sms-only"))
        self.arrives = arrives  # by series
        self.taken: list[int] = []
        self.charged = set[int]()
        self.when_taken = charged_on == "sent"

    def tell(self, series: int, event: events.Event, *, charges: bool) -> None:
        self.world.happen(event)
        self.charged |= {series} if charges else set()
        assert self.world.sums()["cost"] == 40_000 * len(self.charged)

    def report(self, series: int) -> None:
        status: ReceiptStatus = "delivered" if self.arrives[series] else "undelivered"
        event = events.Reported(0, Receipt(status), "sms", series)
        self.tell(series, event, charges=self.when_taken or self.arrives[series])

    def answer(self, series: int) -> None:
        self.tell(series, events.Accepted(0, series=series), charges=self.when_taken)

    def send(self, outcome: str) -> None:
        step = self.world.message.steps[0]
        if step.status == StepStatus.RETRYING:
            self.world.timer()
        if not self.world.happen(events.Claimed(0)).submit:
            return
        if outcome == "refused":
            self.world.happen(events.StepRefused(0, Fault("429", "throttled", False)))
            return
        if step.series not in self.taken:
            self.taken.append(step.series)
        if outcome == "taken":
            self.answer(step.series)
        elif outcome == "unheard":
            self.world.happen(events.LostAnswer(0))


@given(
    # Groups, because it takes an answer that is lost and then a refusal to get another reference
    # where answers do not come late.
    st.lists(
        st.sampled_from(
            [
                ("unheard", "refused"),
                ("refused", "unheard"),
                ("unheard", "taken"),
                ("unheard", "refused", "under way", "reported", "answered late"),
                ("answered late",),
                ("reported",),
            ]
        ),
        min_size=2,
        max_size=8,
    ),
    st.sampled_from(["sent", "delivered"]),
    st.lists(st.booleans(), min_size=20, max_size=20),
    st.booleans(),
    st.data(),
)
@settings(max_examples=500)
def test_each_sending_that_was_taken_costs_once(
    moves: list[tuple[str, ...]],
    charged_on: Literal["sent", "delivered"],
    arrives: list[bool],
    answers_late: bool,
    data: st.DataObject,
) -> None:
    code = SentAgain(charged_on, arrives, answers_late=answers_late)
    for move in chain.from_iterable(moves):
        if move not in ("reported", "answered late"):
            code.send(move)
        elif code.taken:
            said = code.report if move == "reported" else code.answer
            said(data.draw(st.sampled_from(code.taken)))
    for series in data.draw(st.permutations(code.taken)):
        code.report(series)
    arrived = {series for series in code.taken if arrives[series]}
    assert code.charged == (set(code.taken) if charged_on == "sent" else arrived)
    assert (code.world.sums()["billed"] > 0) == bool(arrived)
