"""Random knobs, message ids and phone numbers for the simulator's property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from providers.simulator.knobs import Knobs

ids = st.text("abcdefghij0123456789-", min_size=1, max_size=20)
phones = st.integers(79_000_000_000, 79_999_999_999).map(str)
shares = st.floats(0, 1)


@st.composite
def any_knobs(draw: st.DrawFn) -> Knobs:
    return Knobs(
        seed=draw(st.integers(0, 2**53)),
        viber_share=draw(shares),
        viber_delivered=draw(st.floats(0, 0.5)),
        viber_undelivered=draw(st.floats(0, 0.5)),
        sms_delivered=draw(st.floats(0, 0.5)),
        sms_undelivered=draw(st.floats(0, 0.5)),
        seen_share=draw(shares),
        non_viber=draw(st.sampled_from(["receipt", "reject"])),
        unreached=draw(st.sampled_from(["expired", "silent"])),
        expiry_ms=draw(st.sampled_from([0, 1, 700])),
        revive_share=draw(shares),
        reject_share=draw(st.floats(0, 0.3)),
        receipt_lost_share=draw(shares),
        repeat_share=draw(shares),
        repeat_times=draw(st.integers(0, 3)),
        repeat_gap_ms=draw(st.sampled_from([0, 20])),
        reordered_share=draw(shares),
        early_share=draw(shares),
        late_share=draw(shares),
        sms_charged_on=draw(st.sampled_from(["sent", "delivered"])),
        viber_charged_on=draw(st.sampled_from(["sent", "delivered"])),
    )
