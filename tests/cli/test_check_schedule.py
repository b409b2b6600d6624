"""What `kaskad check` tells of send windows, presets and campaigns."""

from __future__ import annotations

from gateway.cli.operators import check
from gateway.core.campaigns.campaigns import Campaign
from tests.worlds.ingress_world import settings

WINDOW = """[send_windows.hour]
from = "09:00"
to = "{to}"
[[caps]]
preset = "retail"
[[caps]]"""


def test_a_window_without_a_common_hour_is_told_with_the_countries() -> None:
    narrow = settings(changed={"[[caps]]": WINDOW.replace("{to}", "10:00")})
    (told,) = check._closed_windows(narrow, "k.toml")
    assert told.key == "send_windows.hour"
    assert "KZ" in told.reason
    assert "RU" in told.reason
    wide = settings(changed={"[[caps]]": WINDOW.replace("{to}", "21:00")})
    assert list(check._closed_windows(wide, "k.toml")) == []


def test_a_preset_is_told_with_what_it_stands_for() -> None:
    read = settings(changed={"[[caps]]": WINDOW.replace("{to}", "21:00")})
    assert dict(read.notes) == {
        "caps[0].preset": "stands for marketing retail-viber 1 in 1d, retail-sms 2 in 30d, "
        "retail-email 3 in 7d."
    }
    assert [cap.name for cap in read.caps][:2] == ["retail-viber", "two-a-day"]


def test_what_a_campaign_names_and_is_gone_is_told() -> None:
    campaigns = {
        "spring": Campaign(route="pigeon", send_window="never"),
        "summer": Campaign(route="both", send_window="none"),
    }
    keys = [told.key for told in check._gone(campaigns, settings(), "k.toml")]
    assert keys == ["routes.pigeon", "send_windows.never"]
