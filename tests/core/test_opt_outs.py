"""Whose opt-out is whose, and what a person who opted out several times does not want."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.people.opt_outs import (
    EVERY_CHANNEL,
    PERSON,
    KeptOptOut,
    KeptOptOuts,
    NotTheirsError,
    OptOut,
    OptOuts,
    Origin,
    opted_out,
    refuses,
    taken_back,
    widest,
)

NAMES = st.sampled_from([EVERY_CHANNEL, "viber", "sms"])
SCOPE_NAMES: list[OptOut] = ["marketing", "all"]
SCOPES = st.sampled_from(SCOPE_NAMES)
OPT_OUTS = st.dictionaries(NAMES, SCOPES)
ORIGINS = st.builds(Origin, st.sampled_from([PERSON, "shop", "bank"]), st.just(1))
KEPT = st.dictionaries(NAMES, st.builds(KeptOptOut, SCOPES, st.none() | ORIGINS))
CATEGORIES = st.sampled_from(["otp", "marketing"])


@given(st.lists(OPT_OUTS, max_size=4), st.sampled_from(["viber", "sms"]), CATEGORIES)
def test_what_is_refused_under_one_address_is_refused_for_the_person(
    found: list[OptOuts], channel: str, category: str
) -> None:
    told = any(refuses(opt_outs, channel, category) for opt_outs in found)
    assert refuses(widest(found), channel, category) == told


@given(KEPT, NAMES, SCOPES, ORIGINS, st.booleans())
def test_an_opt_out_changes_its_channel_alone_and_nobody_narrows_anothers(
    kept: KeptOptOuts, channel: str, scope: OptOut, origin: Origin, manages: bool
) -> None:
    there = kept.get(channel)
    foreign = there is not None and not there.is_for(origin.app, manages=manages)
    if foreign and there is not None and there.scope == "all" and scope == "marketing":
        with pytest.raises(NotTheirsError):
            opted_out(kept, channel, scope, origin, manages=manages)
        return
    after = opted_out(kept, channel, scope, origin, manages=manages)
    assert {name: one for name, one in after.items() if name != channel} == {
        name: one for name, one in kept.items() if name != channel
    }
    whose = there.origin if foreign and there is not None else origin
    assert after[channel].origin == whose
    if origin.app == PERSON and there is not None and there.scope == "all":
        assert after[channel].scope == "all", "a person who opts out narrows nothing"
    else:
        assert after[channel].scope == scope


@given(KEPT, NAMES, st.sampled_from(["shop", "bank"]))
def test_only_whose_it_is_the_person_and_who_manages_take_an_opt_out_back(
    kept: KeptOptOuts, channel: str, app: str
) -> None:
    rest = {name: one for name, one in kept.items() if name != channel}
    assert taken_back(kept, channel, PERSON) == rest
    assert taken_back(kept, channel, app, manages=True) == rest
    one = kept.get(channel)
    if one is not None and one.origin is not None and one.origin.app != app:
        with pytest.raises(NotTheirsError):
            taken_back(kept, channel, app)
    else:
        assert taken_back(kept, channel, app) == rest


def test_all_are_taken_back_or_none() -> None:
    kept = {
        EVERY_CHANNEL: KeptOptOut("marketing", Origin("shop", 1)),
        "sms": KeptOptOut("all", Origin(PERSON, 1)),
    }
    with pytest.raises(NotTheirsError):
        taken_back(kept, None, "shop")
    assert taken_back(kept, None, PERSON) == {}


def test_what_was_set_after_somebody_took_back_stays() -> None:
    kept = {
        "email": KeptOptOut("marketing", Origin(PERSON, 2_000)),
        "sms": KeptOptOut("all", None),
        "viber": KeptOptOut("marketing", Origin(PERSON, 1_000)),
    }
    assert set(taken_back(kept, None, PERSON, until_ms=1_000)) == {"email"}
    assert taken_back(kept, None, PERSON) == {}
