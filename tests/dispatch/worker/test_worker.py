"""A dispatcher on a real Redis with scripted providers: what becomes of each kind of answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import pytest
import trio

from gateway.core.addresses import Addresses
from gateway.core.channels import SmsContent, ViberContent
from gateway.core.events import Claimed
from gateway.core.people.opt_outs import AT_PROVIDER
from gateway.core.records.content import content_with
from gateway.core.records.user import StoredUser
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.dispatcher import dispatch
from gateway.dispatch.worker import wake_ups
from gateway.settings.tables import Lanes
from gateway.store import shared_keys
from gateway.store.messages.apply import Applied, Item
from gateway.store.people import opt_outs, users
from providers.contract import (
    AccountFault,
    BadRequest,
    Fault,
    FcmAddress,
    NotSent,
    Outcome,
    Receipt,
    Refused,
    Submission,
    Submitted,
    Throttled,
    Unknown,
)
from providers.reasons import Reason
from tests.worlds.dispatch_world import accept, dispatching, fail, under_trio, world


@under_trio
async def test_what_is_accepted_is_sent_once_in_batches(redis_url: str) -> None:
    async with world(redis_url) as w:
        before = await w.admit(150)
        async with dispatching(w):
            await w.until(before, "sent", "planned")
            after = await w.admit(3)  # while the worker is idle: it is woken
            await w.until(after, "sent", "planned")
        assert w.viber.sent == dict.fromkeys([*before, *after], 1)
        assert len(w.viber.batches) < 50
        assert await w.lane_entries() == 0


@under_trio
async def test_an_idle_worker_is_woken_at_once(redis_url: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wake_ups, "IDLE_S", 3_600.0)  # it never looks by itself
        async with world(redis_url) as w, dispatching(w):
            for _ in range(5):
                await w.until(await w.admit(), "sent", "planned")


@under_trio
async def test_a_submission_says_what_the_message_says(redis_url: str) -> None:
    async with world(redis_url) as w:
        content = content_with(
            "text", {"viber": ViberContent("Viber"), "sms": SmsContent("SMS", "Bank")}
        )
        (id_,) = await w.admit(content=content, category="otp", campaign=None)
        w.viber.otherwise = refuse_all(permanent=True)
        async with dispatching(w):
            await w.until([id_], "rejected", "sent")
        (viber,), (sms,) = w.viber.batches[0], w.sms.batches[0]
        assert (viber.text, viber.sender, viber.ref) == ("Viber", "Shop", id_ + ".0")
        assert (sms.text, sms.sender, sms.ref) == ("SMS", "Bank", id_ + ".1")
        assert sms.to.startswith("+7916")
        assert 290_000 < viber.validity_ms <= 300_000, "never longer than the message is worth"


@under_trio
async def test_a_device_that_is_gone_is_dropped_from_its_user(redis_url: str) -> None:
    dead, alive = FcmAddress("tok-1"), FcmAddress("tok-2")

    async def reply(batch: Sequence[Submission]) -> list[Outcome]:
        return [Submitted(s.ref, delivered=True, gone=(dead,)) for s in batch]

    async with world(redis_url, shards=3) as w:
        kept = StoredUser("shop", 0, Addresses(push=(dead, alive)))
        await users.change(w.store, [users.UserChange("u1", "", kept.addresses, lambda _: kept)], 0)
        w.viber.otherwise = reply
        ids = [*await w.admit(user="u1"), *await w.admit(user="nobody"), *await w.admit()]
        async with dispatching(w):
            await w.until(ids, "delivered", "skipped")
        left = await users.read(w.store, ["u1", "nobody"])
        assert left["u1"].addresses.push == (alive,)
        assert list(left) == ["u1"]


@under_trio
async def test_who_told_the_provider_to_be_sent_no_more_is_opted_out_of_marketing_there(
    redis_url: str,
) -> None:
    left = Reason("person", opted_out=True)
    somebody = Addresses("79161234567")

    async def reply(batch: Sequence[Submission]) -> list[Outcome]:
        return [left.refused(s.ref, "21610", "21610") for s in batch]

    async with world(redis_url, shards=3) as w:
        w.viber.otherwise = reply

        async def is_out() -> bool:
            kept = await opt_outs.find(w.redis, 3, "79161234567")
            told = {name: (one.scope, one.origin and one.origin.why) for name, one in kept.items()}
            return told == {"viber": ("marketing", AT_PROVIDER)}

        async with dispatching(w):
            first = await w.admit(addresses=somebody)
            await w.until(first, "rejected", "sent")
            await w.until_asked(is_out)
            second = await w.admit(addresses=somebody, campaign="another")
            await w.until(second, "skipped", "sent")
        assert len(w.viber.batches) == 1


def refuse_all(*, permanent: bool):  # type: ignore[no-untyped-def]
    async def reply(batch: Sequence[Submission]) -> list[Outcome]:
        return [Refused(s.ref, Fault("7", "not_a_user", permanent)) for s in batch]

    return reply


@under_trio
async def test_a_refusal_for_a_while_is_tried_again_under_a_new_reference(redis_url: str) -> None:
    async with world(redis_url, retry_ms=10) as w:
        w.viber.script = [refuse_all(permanent=False)]
        (id_,) = await w.admit()
        async with dispatching(w):
            await w.until([id_], "sent", "planned")
        assert w.viber.refs == [id_ + ".0", id_ + ".0.1"]


@under_trio
async def test_what_did_not_leave_us_is_sent_again_later(redis_url: str) -> None:
    async with world(redis_url, retry_ms=10) as w:
        w.viber.script = [fail(NotSent("connect_failed", "No route."))] * 2
        ids = await w.admit(5)
        async with dispatching(w):
            await w.until(ids, "sent", "planned")
        assert set(w.viber.sent) == set(ids)


@under_trio
async def test_a_lost_answer_is_asked_for_and_never_sent_again_blindly(redis_url: str) -> None:
    async with world(redis_url) as w:
        w.viber.script = [fail(Unknown("answer_timeout", "Too slow."))]
        (id_,) = await w.admit()
        w.viber.knows[id_ + ".0"] = Receipt(status="sent", ref=id_ + ".0")
        async with dispatching(w):
            await w.until([id_], "unknown", "planned")
            w.go_ahead(5_000)
            await w.until([id_], "sent", "planned")
        assert w.viber.refs == [id_ + ".0"]
        assert w.viber.asked == [id_ + ".0"]


@under_trio
async def test_a_step_the_provider_twice_does_not_know_is_sent_again(redis_url: str) -> None:
    async with world(redis_url) as w:
        w.viber.script = [fail(Unknown("answer_timeout", "Too slow."))]
        (id_,) = await w.admit()
        async with dispatching(w):
            await w.until([id_], "unknown", "planned")
            w.go_ahead(5_000)
            await w.until_true(lambda: len(w.viber.asked) == 1)
            assert await w.steps(id_) == ["unknown", "planned"]
            w.go_ahead(10_000)
            await w.until([id_], "sent", "planned")
        assert w.viber.refs == [id_ + ".0"] * 2, "the same reference: no second message"


@under_trio
async def test_a_step_that_a_look_up_finds_rejected_was_never_sent_and_costs_nothing(
    redis_url: str,
) -> None:
    """Its rejection stood in the answer that was lost: SMS are charged when they are taken."""
    async with world(redis_url) as w:
        w.viber.otherwise = refuse_all(permanent=True)
        w.sms.script = [fail(Unknown("answer_timeout", "Too slow."))]
        (id_,) = await w.admit()
        w.sms.knows[id_ + ".1"] = Receipt(
            status="rejected", ref=id_ + ".1", fault=Fault("6", "network", False)
        )
        async with dispatching(w):
            await w.until([id_], "rejected", "unknown")
            w.go_ahead(5_000)
            await w.until([id_], "rejected", "rejected")
        step = (await w.message(id_)).steps[1]
        assert (step.attempts[0].sent_ms, step.charged) == (0, None)
        assert step.latest_fault == Fault("6", "network", True)


@under_trio
async def test_a_look_up_that_fails_decides_nothing(redis_url: str) -> None:
    async with world(redis_url) as w:
        w.viber.script = [fail(Unknown("answer_timeout", "Too slow."))]
        w.viber.look_up_fault = Unknown("answer_timeout", "Too slow.")
        (id_,) = await w.admit()
        async with dispatching(w):
            await w.until([id_], "unknown", "planned")
            w.go_ahead(5_000)
            await w.until_true(lambda: len(w.viber.asked) == 1)
            w.go_ahead(10_000)
            await w.until_true(lambda: len(w.viber.asked) == 2)
            assert await w.steps(id_) == ["unknown", "planned"]


@under_trio
async def test_an_answer_that_leaves_some_out_has_lost_those(redis_url: str) -> None:
    async def first_only(batch: Sequence[Submission]) -> list[Outcome]:
        return [Submitted(batch[0].ref, provider_id="P1", parts=1)]

    async with world(redis_url) as w:
        w.viber.script = [first_only]
        ids = await w.admit(2)
        async with dispatching(w):
            await w.until_true(lambda: bool(w.viber.batches))
            named, lost = (s.ref.split(".")[0] for s in w.viber.batches[0])
            await w.until([named], "sent", "planned")
            await w.until([lost], "unknown", "planned")
        assert set(ids) == {named, lost}
        assert (await w.message(named)).steps[0].attempts[0].provider_id == "P1"


@under_trio
async def test_a_bug_in_an_adapter_costs_no_message_and_sends_none_twice(redis_url: str) -> None:
    async def broken(batch: Sequence[Submission]) -> list[Outcome]:
        raise KeyError("messages")

    async with world(redis_url) as w:
        w.viber.script = [broken]
        (first,) = await w.admit()
        async with dispatching(w):
            await w.until([first], "unknown", "planned")
            (second,) = await w.admit()
            await w.until([second], "sent", "planned")
        assert w.viber.sent == {first: 1, second: 1}


@under_trio
async def test_of_a_refused_request_only_the_bad_message_is_rejected(redis_url: str) -> None:
    async def but_13(batch: Sequence[Submission]) -> list[Outcome]:
        if any(s.to.endswith("13") for s in batch):
            raise BadRequest("E400", "to is no number")
        return await accept(batch)

    async with world(redis_url) as w:
        w.viber.otherwise = but_13
        ids = await w.admit(40)
        async with dispatching(w):
            await w.until([i for n, i in enumerate(ids) if n != 13], "sent", "planned")
            await w.until([ids[13]], "rejected", "sent")


@under_trio
async def test_when_told_to_slow_down_nobody_sends_until_then(redis_url: str) -> None:
    async with world(redis_url) as w:
        w.viber.script = [fail(Throttled("429", "Slow down.", retry_after_ms=700))]
        ids = await w.admit(3)
        async with dispatching(w), dispatching(w):
            await w.until_true(lambda: bool(w.viber.batches))
            told = trio.current_time()
            await w.until_true(lambda: len(w.viber.batches) > 1)
            assert trio.current_time() - told > 0.6
            await w.until(ids, "sent", "planned")
        message = await w.message(ids[0])
        assert message.steps[0].tries == 1, "being throttled costs no attempt"


@under_trio
async def test_an_account_fault_pauses_the_provider_until_a_probe_goes_well(redis_url: str) -> None:
    async with world(redis_url) as w:
        w.viber.script = [fail(AccountFault("E402", "No credit.")) for _ in range(2)]
        ids = await w.admit(8)  # one request
        async with dispatching(w) as deps:
            await w.until_true(lambda: bool(w.viber.batches))

            async def is_paused() -> bool:
                return await w.redis.call([("HLEN", shared_keys.PAUSED)]) == [1]

            await w.until_asked(is_paused)
            (value,) = await w.redis.call([("HGET", shared_keys.PAUSED, "viber")])
            pause = msgspec.json.decode(value)
            assert (pause["code"], pause["detail"]) == ("E402", "No credit.")
            assert pause["until"] - pause["since"] == 5_000
            assert deps.metrics.paused.labels("viber", "account")._value.get() == 1
            w.go_ahead(5_000)
            await w.until_true(lambda: len(w.viber.batches) == 2)
            assert len(w.viber.batches[1]) == 1, "a probe is one message"
            await w.until(ids, "queued", "planned")  # so the longer pause is known
            w.go_ahead(11_000)
            await w.until(ids, "sent", "planned")
            assert await w.redis.call([("HLEN", shared_keys.PAUSED)]) == [0]
            assert deps.metrics.paused.labels("viber", "account")._value.get() == 0
            # The other provider was not touched.
            (sms,) = await w.admit(route="sms-only")
            await w.until([sms], "sent")


@under_trio
async def test_a_pause_one_dispatcher_found_is_kept_by_all(redis_url: str) -> None:
    async with world(redis_url) as w:
        pause = {"code": "E402", "detail": "", "since": w.clock(), "until": w.clock() + 60_000}
        await w.redis.call([("HSET", shared_keys.PAUSED, "viber", msgspec.json.encode(pause))])
        (id_,) = await w.admit()
        async with dispatching(w):
            (sms,) = await w.admit(route="sms-only")
            await w.until([sms], "sent")
            assert w.viber.batches == []
            await w.redis.call([("HDEL", shared_keys.PAUSED, "viber")])  # by hand
            await w.until([id_], "sent", "planned")


@under_trio
async def test_an_otp_goes_before_the_campaign_that_was_there_first(redis_url: str) -> None:
    async with world(redis_url) as w:
        w.viber = type(w.viber)("viber", rate=200)
        await w.admit(120)
        async with dispatching(w):
            await w.until_true(lambda: len(w.viber.refs) > 10)
            (otp,) = await w.admit(category="otp", campaign=None)
            begun = len(w.viber.batches)
            await w.until([otp], "sent", "planned")
            at = next(n for n, b in enumerate(w.viber.batches) if b[0].category == "otp")
            # Behind what was granted within the horizon already, not behind the campaign.
            assert at - begun <= 100 // 10 + 2
            assert len(w.viber.refs) < 100


@under_trio
async def test_a_flood_of_otp_leaves_a_campaign_its_floor(redis_url: str) -> None:
    async with world(redis_url) as w:
        w.viber = type(w.viber)("viber", rate=1_000)
        await w.admit(100)
        await w.admit(400, category="otp", campaign=None)
        async with dispatching(w):
            await w.until_true(lambda: len(w.viber.refs) > 200)
            sent = [s.category for batch in w.viber.batches for s in batch]
        assert 0.08 <= sent.count("marketing") / len(sent) <= 0.2


@under_trio
async def test_what_finds_no_token_goes_back_to_its_lane(redis_url: str) -> None:
    async with world(redis_url) as w:
        ids = await w.admit(3)
        begun, release, claimed = trio.Event(), trio.Event(), trio.Event()
        real = w.store.apply

        async def slow_claims(items: Iterable[Item], now_ms: int) -> list[Applied]:
            items = list(items)
            if not isinstance(items[0].event, Claimed):
                return await real(items, now_ms)
            begun.set()
            await release.wait()
            applied = await real(items, now_ms)
            assert [each.effects.submit for each in applied] == [True] * 3
            claimed.set()
            return applied

        w.store.apply = slow_claims  # type: ignore[method-assign]
        async with dispatching(w):
            await begun.wait()
            await w.redis.call([("HSET", "{limit:viber}", "free_us", 9 * 10**15)])
            await trio.sleep(0.3)  # the tokens lapse, also those asked for a moment ago
            release.set()
            await claimed.wait()
            await w.until(ids, "queued", "planned")
            assert await w.lane_entries() == 3
            await w.redis.call([("DEL", "{limit:viber}")])
        assert w.viber.batches == []


@under_trio
async def test_no_more_requests_are_open_than_there_are_connections(redis_url: str) -> None:
    open_now = most = 0

    async def slow(batch: Sequence[Submission]) -> list[Outcome]:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await trio.sleep(0.02)
        open_now -= 1
        return await accept(batch)

    async with world(redis_url) as w:
        w.viber = type(w.viber)("viber", batch=2, connections=3)
        w.viber.otherwise = slow
        ids = await w.admit(40)
        async with dispatching(w):
            await w.until(ids, "sent", "planned")
        assert most == 3


@under_trio
async def test_stopping_waits_for_answers_and_puts_back_what_has_not_begun(redis_url: str) -> None:
    answer = trio.Event()

    async def wait(batch: Sequence[Submission]) -> list[Outcome]:
        await answer.wait()
        return await accept(batch)

    async with world(redis_url) as w:
        w.viber = type(w.viber)("viber", rate=40, batch=10)
        w.viber.otherwise = wait
        ids = await w.admit(30)
        async with dispatching(w) as deps:
            await w.until_true(lambda: bool(w.viber.batches))
            deps.stopping.set()
            begun = set(w.viber.sent)
            answer.set()
        statuses = {i: (await w.steps(i))[0] for i in ids}
        assert {i for i, s in statuses.items() if s == "sent"} == set(w.viber.sent) >= begun
        assert set(statuses.values()) == {"sent", "queued"}
        # The next one takes over at once what was left, whatever its lease.
        async with dispatching(w):
            await w.until(ids, "sent", "planned")
        assert w.viber.sent == dict.fromkeys(ids, 1)


@under_trio
async def test_a_stop_ends_at_its_deadline_and_others_ask_what_became(redis_url: str) -> None:
    async with world(redis_url) as w:
        w.terms = Lanes(stop_within_ms=msgspec.convert(200, type=int))  # type: ignore[arg-type]

        async def never(batch: Sequence[Submission]) -> list[Outcome]:
            await trio.sleep_forever()
            raise AssertionError

        w.viber.script = [never]
        (id_,) = await w.admit()
        async with dispatching(w):
            await w.until_true(lambda: bool(w.viber.batches))
        assert await w.steps(id_) == ["sending", "planned"]
        w.viber.knows[id_ + ".0"] = Receipt(status="delivered", ref=id_ + ".0")
        async with dispatching(w):
            await w.until([id_], "unknown", "planned")
            w.go_ahead(5_000)
            await w.until([id_], "delivered", "skipped")
        assert w.viber.sent == {id_: 1}


@under_trio
async def test_several_shards_are_all_worked_on(redis_url: str) -> None:
    async with world(redis_url, shards=3) as w:
        ids = await w.admit(60)
        assert len({w.store.shard_of_message(i) for i in ids}) == 3
        async with dispatching(w):
            await w.until(ids, "sent", "planned")
            more = await w.admit(6)
            await w.until(more, "sent", "planned")
        assert w.viber.sent == dict.fromkeys([*ids, *more], 1)


@under_trio
async def test_a_silent_viber_step_falls_back_to_sms_when_its_time_is_up(redis_url: str) -> None:
    async with world(redis_url) as w:
        (id_,) = await w.admit()
        async with dispatching(w):
            await w.until([id_], "sent", "planned")
            w.go_ahead(15 * 60_000 + 10_000)
            await w.until([id_], "expired", "sent")
        assert w.sms.refs == [id_ + ".1"]


@under_trio
async def test_the_metrics_tell_how_sends_ended_and_what_is_left(redis_url: str) -> None:
    async with world(redis_url, shards=2) as w:
        w.viber.script = [fail(Unknown("answer_timeout", "Too slow."))]
        await w.admit(7)
        published = trio.Event()

        async def publish() -> None:
            published.set()

        def metric(deps: DispatchDeps, name: str, **labels: str) -> float | None:
            return deps.metrics.registries.own.get_sample_value("kaskad_dispatch_" + name, labels)

        async with dispatching(w, publish=publish) as deps:
            await w.until_true(lambda: len(w.viber.refs) == 7)
            with trio.fail_after(5):
                await published.wait()

            async def recorded() -> bool:
                return await w.lane_entries() == 0

            await w.until_asked(recorded)
        lost = metric(deps, "outcomes_total", provider="viber", outcome="unknown") or 0
        accepted = metric(deps, "outcomes_total", provider="viber", outcome="accepted") or 0
        assert lost >= 1
        assert lost + accepted == 7
        assert (metric(deps, "tokens_total", provider="viber") or 0) >= 7
        requests = metric(deps, "request_seconds_count", provider="viber")
        assert requests == len(w.viber.batches)
        assert metric(deps, "requests_open", provider="viber") == 0
        assert metric(deps, "claimed", provider="viber") == 0
        shared = deps.metrics.registries.shared.get_sample_value
        assert 0 < (shared("kaskad_dispatch_tokens_left", {"provider": "sms"}) or 0) < 100
        assert shared("kaskad_dispatch_rate", {"provider": "sms"}) == 1_000


@under_trio
async def test_told_to_stop_before_redis_answered_it_stops(redis_url: str) -> None:
    async with world("unix:///nowhere/kaskad.sock") as w:
        deps = w.deps()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dispatch, deps)
            await w.until_true(
                lambda: (
                    (
                        deps.metrics.registries.own.get_sample_value(
                            "kaskad_dispatch_redis_retries_total", {"loop": "start"}
                        )
                        or 0
                    )
                    >= 1
                )
            )
            deps.stopping.set()
