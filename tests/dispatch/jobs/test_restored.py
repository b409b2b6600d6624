"""After a restore from a backup, providers are asked before anything older is sent."""

from __future__ import annotations

from gateway.core.policy import LOOK_UP_MIN_MS
from gateway.store.installation import installation
from gateway.store.providers import pauses
from gateway.store.providers.pauses import Trouble
from providers.contract import Receipt
from tests.worlds.cascade_world import DAY
from tests.worlds.dispatch_world import dispatching, under_trio, world


@under_trio
async def test_what_was_out_at_backup_time_is_asked_for_and_sent_only_if_unknown(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        sent, unsent = await w.admit(2)
        # The backup was taken now. Then one of the two was sent, and Redis was lost.
        w.viber.knows[sent + ".0"] = Receipt(status="sent", ref=sent + ".0")
        w.go_ahead(1_000)
        w.store.restored_ms = w.clock()
        w.go_ahead(1_000)
        (fresh,) = await w.admit()
        async with dispatching(w):
            await w.until([fresh], "sent", "planned")
            await w.until([sent, unsent], "unknown", "planned")
            assert w.viber.sent == {fresh: 1}

            async def recorded() -> bool:
                w.go_ahead(500)
                return {s for i in (sent, unsent) for s in await w.steps(i)} == {"sent", "planned"}

            await w.until_asked(recorded)
        assert w.viber.sent == {fresh: 1, unsent: 1}
        assert set(w.viber.asked) == {sent + ".0", unsent + ".0"}


@under_trio
async def test_a_code_whose_provider_is_away_is_asked_for_before_another_channel_sends_it(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        (id_,) = await w.admit(category="otp", campaign=None)
        # The backup was taken now. Then the code arrived, and Redis was lost.
        w.viber.knows[id_ + ".0"] = Receipt(status="delivered", ref=id_ + ".0")
        w.go_ahead(1_000)
        w.store.restored_ms = w.clock()
        account = pauses.begun(Trouble(pauses.ACCOUNT, "E402", "No credit."), w.clock())
        await pauses.change(w.redis, "viber", lambda _: account)
        async with dispatching(w):
            await w.until([id_], "unknown", "planned")
            w.go_ahead(LOOK_UP_MIN_MS)
            await w.until([id_], "delivered", "skipped")
        assert w.viber.sent == w.sms.sent == {}


@under_trio
async def test_a_fallback_that_may_have_gone_out_after_the_backup_is_asked_for(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        (id_,) = await w.admit()
        async with dispatching(w):
            await w.until([id_], "sent", "planned")
        # The backup was taken now; after it the SMS went out and arrived.
        w.sms.knows[id_ + ".1"] = Receipt(status="delivered", ref=id_ + ".1")
        w.go_ahead(1_000)
        w.store.restored_ms = w.clock()
        async with dispatching(w):
            step = (await w.message(id_)).step
            w.go_ahead(min(step.wait_ms + step.grace_ms, DAY))

            async def arrived() -> bool:
                w.go_ahead(500)
                return await w.steps(id_) == ["expired", "delivered"]

            await w.until_asked(arrived)
        assert w.sms.sent == {}


def test_the_moment_of_a_restore_is_kept(redis_url: str) -> None:
    installation.prepare(redis_url, 1, "EUR")
    assert installation.restored_at(redis_url) == 0
    installation.prepare(redis_url, 1, "EUR", restored_ms=7)
    installation.prepare(redis_url, 1, "EUR")
    assert installation.restored_at(redis_url) == 7
