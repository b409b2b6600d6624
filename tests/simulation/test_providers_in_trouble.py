"""Ports of real kinds whose provider is in trouble for minutes, in virtual time: what waits is sent
when it is over, what was lost is unknown, and nobody gets anything twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
import structlog.testing
import trio
from msgspec.structs import replace

from gateway.core.addresses import Addresses
from gateway.core.channels import EmailContent
from gateway.core.policy import Policy, ProviderRule, RouteStep
from gateway.core.records.content import content_with
from gateway.core.records.message import StepStatus, names_of
from gateway.store.messages import reads
from gateway.store.providers import pauses
from providers.contract import (
    FcmAddress,
    NotSent,
    Outcome,
    SendFault,
    Submission,
    Submitted,
    Unknown,
)
from providers.fcm.provider import FcmProvider
from providers.http.adapter import ProviderRequest, Reply
from providers.http.client import ProviderClient
from providers.mail.reasons import of_recipient
from providers.registry import KINDS
from providers.settings import Configured
from providers.smpp import pdu
from providers.smpp.pdu import Frames
from providers.smpp.provider import PART_TRIES, SmppProvider
from providers.smtp.settings import SmtpSettings
from tests.simulation.away import Away
from tests.worlds.cascade_world import MINUTE, PRICES, policy
from tests.worlds.dispatch_world import ScriptedProvider
from tests.worlds.push_examples import service_account
from tests.worlds.smsc import Smsc, config

TEN_MINUTES_S = 600.0
WINDOW = 10
SAID = content_with("Hello", {"email": EmailContent(subject="Hello")})
PAYMENT = {"category": "transactional", "campaign": None}


def alone(channel: str, **rule: Any) -> Policy:
    """Every route has one step, by the one provider of that name and channel."""
    rules = policy()
    step = RouteStep((channel,), 120 * MINUTE, 10_000)
    return replace(
        rules,
        providers={channel: ProviderRule(channel, **rule)},
        routes=dict.fromkeys(rules.routes, (step,)),
        quote=lambda *_: PRICES["sms"],
    )


def steps(world: Away, ids: Sequence[str] | None = None) -> Counter[str]:
    """How many messages' first steps ended so."""
    names = names_of(StepStatus)
    return Counter(names[m.steps[0].status] for m in world.messages if ids is None or m.id in ids)


# --- SMPP


class Smscs(Smsc):
    """Answers after a moment, and then reports that it was delivered."""

    def __init__(self, world: Away) -> None:
        super().__init__()
        self._world = world
        self.decide = self._later
        self.ended: list[trio.abc.Stream] = []
        self.hangs_up = False  # on whoever was bound

    async def __call__(self, stream: trio.abc.Stream) -> None:
        if not self.hangs_up:
            await super().__call__(stream)
            return
        for frame in Frames().feed(bytes(await stream.receive_some(65_536))):
            await stream.send_all(self._answer(frame))
        await trio.aclose_forcefully(stream)

    def _later(self, message: pdu.Short) -> None:
        place, id_, stream = len(self.submitted) - 1, f"id-{next(self.numbers)}", self.streams[-1]
        self._world.later(self._tell, place, id_, stream)

    async def _tell(self, place: int, id_: str, stream: trio.abc.Stream) -> None:
        await trio.sleep(0.1)
        if stream in self.ended:
            return
        await self.answer(place, id_=id_)
        await trio.sleep(0.5)
        text = f"id:{id_} stat:DELIVRD err:000".encode()
        await self.report(pdu.Short(esm_class=0x04, short_message=text))

    async def report(self, receipt: pdu.Short) -> None:
        """Over whatever session there is, and again over the next one where it had no answer."""
        while True:
            try:
                with trio.move_on_after(2.0):
                    await self._thanked(await self.push(receipt))
                    return
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await trio.sleep(0.5)

    async def _thanked(self, sequence: int) -> None:
        await self.until(lambda: sequence in self.answered)

    async def hang_up(self) -> None:
        self.ended.append(self.streams[-1])
        await trio.aclose_forcefully(self.streams[-1])

    @property
    def asked(self) -> Counter[str]:
        """How often each person's message came."""
        return Counter(message.destination for message in self.submitted)


def by_smpp(**changes: Any) -> tuple[Away, Smscs]:
    world = Away(alone("sms"))
    smsc = Smscs(world)
    terms = {"name": "sms", "rate_per_s": 50, "window": WINDOW} | changes
    world.ports = {"sms": SmppProvider(config(**terms), smsc.connect)}
    return world, smsc


@pytest.mark.parametrize("parts", [1, 3])
def test_a_session_that_ends_every_few_seconds_loses_only_what_was_under_way(parts: int) -> None:
    world, smsc = by_smpp()
    text = "Hello" if parts == 1 else "я" * 150

    async def work() -> None:
        await world.admit(600 // parts, content=content_with(text, {}))
        for _ in range(6):
            await trio.sleep(2.0)
            await smsc.hang_up()
        await trio.sleep(60.0)
        assert await pauses.read(world.store.redis) == {}

    world.run(work)
    ended = steps(world)
    assert len(smsc.asked) == 600 // parts
    assert set(smsc.asked.values()) <= set(range(1, parts + 1)), "each part was sent once"
    assert set(ended) <= {"delivered", "unknown"}
    assert 0 < ended["unknown"] <= 6 * WINDOW
    whole = sum(count == parts for count in smsc.asked.values())
    assert ended["delivered"] <= whole


def test_a_bind_that_is_taken_for_still_bound_is_tried_until_it_is_free() -> None:
    world, smsc = by_smpp()
    smsc.bind_status = 0x05

    async def work() -> None:
        early = await world.admit(20)
        early += await world.admit(20, **PAYMENT)
        await trio.sleep(TEN_MINUTES_S)
        assert smsc.submitted == []
        assert len(smsc.binds) <= 30
        smsc.bind_status = pdu.OK
        await trio.sleep(90.0)
        await world.admit(20)
        await trio.sleep(20.0)
        assert await pauses.read(world.store.redis) == {}

    world.run(work)
    assert steps(world) == {"delivered": 60}
    assert set(smsc.asked.values()) == {1}


def test_an_account_that_is_hung_up_on_is_bound_less_and_less_often() -> None:
    world, smsc = by_smpp()
    smsc.hangs_up = True
    late: list[str] = []

    async def work() -> None:
        await world.admit(20)
        await trio.sleep(TEN_MINUTES_S)
        assert len(smsc.binds) <= 30
        smsc.hangs_up = False
        late.extend(await world.admit(20))
        await trio.sleep(120.0)

    world.run(work)
    assert steps(world, late) == {"delivered": 20}
    # What was written between the bind and the end may have been taken.
    assert set(steps(world)) <= {"delivered", "unknown"}
    assert set(smsc.asked.values()) == {1}


def test_a_lost_answer_and_a_part_that_is_sent_again_hold_up_no_other_of_their_window() -> None:
    """The answers of the whole window were recorded when its last one was known, after 30 s and
    10 s here, and receipts that came meanwhile found no message."""
    world, smsc = by_smpp(rate_per_s=1_000, window=20)
    later = smsc.decide

    def decide(message: pdu.Short) -> tuple[int, str] | None:
        if message.destination.endswith("3"):
            return None
        if message.destination.endswith("9") and message.short_message[5] == 2:
            return pdu.THROTTLED, ""
        return later(message)

    smsc.decide = decide

    async def work() -> None:
        ids = await world.admit(10, content=content_with("я" * 100, {}))  # of two parts
        await trio.sleep(2.0)
        kept = [await reads.message(world.store, id_) for id_ in ids]
        world.messages = [message for message in kept if message is not None]
        assert steps(world) == {"delivered": 8, "sending": 2}
        await trio.sleep(60.0)

    with structlog.testing.capture_logs() as logs:
        world.run(work)
    assert steps(world) == {"delivered": 8, "unknown": 2}
    assert sorted(smsc.asked.values()) == [2] * 9 + [2 + PART_TRIES], "only a part was sent again"
    told: Counter[str] = Counter()
    for each in logs:
        told += each["outcomes"] if each["event"] == "request" else Counter()
    assert told == {"accepted": 8, "unknown": 2}, "each is told of once"


def test_a_lost_answer_takes_one_place_of_the_window_and_not_its_batch() -> None:
    """Ten of twenty places were enough for all the others: their batches had held all twenty."""
    world, smsc = by_smpp(rate_per_s=1_000, window=20, connections=1)
    later, lost = smsc.decide, ("03", "13", "23", "33", "43")
    smsc.decide = lambda sent: None if sent.destination.endswith(lost) else later(sent)

    async def work() -> None:
        await world.admit(200)
        await trio.sleep(20.0)
        assert len(smsc.submitted) == 200
        await trio.sleep(30.0)

    world.run(work)
    assert steps(world) == {"delivered": 190, "unknown": 10}


# --- FCM


class Google:
    """Gives out tokens but while it is `away`, and takes every message."""

    def __init__(self) -> None:
        self.away: SendFault | None = None
        self.asked = 0
        self.taken: list[float] = []

    async def send(self, request: ProviderRequest) -> Reply:
        await trio.sleep(0.02)
        if request.path != "/token":
            self.taken.append(trio.current_time())
            return Reply(200, {}, b'{"name": "p/1"}')
        self.asked += 1
        if self.away is not None:
            raise self.away
        return Reply(200, {}, b'{"access_token": "t", "expires_in": 3599}')

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    "away", [NotSent("connect_failed", "Connection refused."), Unknown("http_503", "Away.")]
)
def test_a_token_server_that_is_away_for_ten_minutes_burns_nothing(
    away: SendFault, tmp_path: Path
) -> None:
    world, google = Away(alone("push")), Google()
    google.away = away
    keys: dict[str, Any] = {
        "kind": "fcm",
        "service_account_file": str(service_account(tmp_path, "http://g/token")),
    }
    settings = KINDS["fcm"].settings(**keys)
    provider = FcmProvider(
        Configured(name="push", settings=settings, secret=lambda _: "", callback_url=""),
        clock=lambda: 1.0,
    )
    provider._client = provider._tokens = cast(ProviderClient, google)
    world.ports = {"push": provider}
    devices = {"addresses": Addresses(push=(FcmAddress("a"), FcmAddress("b")))}

    async def work() -> None:
        await world.admit(20, **devices)
        await world.admit(20, **PAYMENT, **devices)
        await trio.sleep(TEN_MINUTES_S)
        assert google.taken == []
        pause = (await pauses.read(world.store.redis))["push"]
        assert (pause.kind, pause.code) == (pauses.OUTAGE, f"token_{away.code}")
        assert google.asked < 100
        google.away = None
        await trio.sleep(60.0)

    world.run(work)
    assert steps(world) == {"delivered": 40}
    assert len(google.taken) == 80


# --- mail


class Greylisting(ScriptedProvider):
    """Refuses each recipient's mails until ten minutes after the first one."""

    def __init__(self) -> None:
        super().__init__("email", rate=100, batch=1)
        self.first: dict[str, float] = {}
        self.taken: Counter[str] = Counter()
        self.otherwise = self._answer

    async def _answer(self, batch: Sequence[Submission]) -> list[Outcome]:
        (sent,) = batch
        now = trio.current_time()
        if now < self.first.setdefault(sent.to, now) + TEN_MINUTES_S:
            reason = of_recipient(451, "4.7.1", "Greylisted")
            return [reason.refused(sent.ref, "4.7.1", "Greylisted")]
        self.taken[sent.to] += 1
        return [Submitted(sent.ref, delivered=True)]


def test_a_server_that_greylists_everybody_gets_every_mail_when_it_wants_them() -> None:
    settings = SmtpSettings(kind="smtp", host="h", from_="a@b.example")
    rule = {"attempts_max": settings.attempts_max, "retry_ms": settings.retry_delay_ms}
    world, server = Away(alone("email", **rule)), Greylisting()
    world.ports = {"email": server}

    async def work() -> None:
        for number in range(30):
            to = Addresses(email=f"p{number}@shop.example")
            await world.admit(addresses=to, content=SAID)
        await trio.sleep(60.0)
        assert await pauses.read(world.store.redis) == {}
        await trio.sleep(1_000.0)

    world.run(work)
    assert steps(world) == {"delivered": 30}
