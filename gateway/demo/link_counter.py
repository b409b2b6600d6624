"""The apps' own link counters: what people of the simulator clicked, reported as apps report it.

No provider tells of a click. Each is reported once, by the app whose message it was.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from typing import Any

from gateway.demo.api import CampaignFailed
from gateway.demo.audience import Audience
from gateway.demo.stage import Stage
from providers.simulator.book import Click

REACTIONS_A_CALL = 1_000


class LinkCounter:
    """Knows how far it came."""

    def __init__(self, place: Stage, audience: Audience) -> None:
        self._place = place
        self._audience = audience
        self._offset = 0
        self._waiting: list[Click] = []  # for the answer that says whose message it is

    def report(self) -> None:
        """Reports what was clicked since the last time. Raises CampaignFailed."""
        while (page := self._place.simulator.clicks(self._offset)).clicks:
            self._waiting += page.clicks
            self._offset = page.next_offset
        clicks, self._waiting = self._waiting, []
        by_app: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for click in clicks:
            id_ = click.message_id.partition(".")[0]
            app = self._audience.owner(id_)
            if app is None:
                self._waiting.append(click)
                continue
            at = datetime.datetime.fromtimestamp(click.at_ms / 1000, datetime.UTC).isoformat()
            reaction = {"message": id_, "kind": "clicked", "channel": click.channel, "at": at}
            by_app[app].append(reaction)
        for app, reactions in by_app.items():
            for start in range(0, len(reactions), REACTIONS_A_CALL):
                self._post(app, reactions[start : start + REACTIONS_A_CALL])

    def _post(self, app: str, reactions: list[dict[str, Any]]) -> None:
        for result in self._place.api(app).call("POST", "/v1/reactions", reactions):
            if result["outcome"] not in ("accepted", "duplicate"):
                raise CampaignFailed(f"A click was not taken: {result}")
