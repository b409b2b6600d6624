"""Who follows the links of the demo's messages: people of the simulator, on a telephone, and before
them the programs that look at a link: previewers and scanners.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.demo.api import CampaignFailed
from gateway.demo.campaign import SHOP
from gateway.demo.stage import Stage
from providers.simulator.book import Click

VisitorHeaders = Mapping[str, str]


class Program(NamedTuple):
    """One that fetches every `every`-th link before its person does."""

    user_agent: str
    every: int


PROGRAMS = (
    Program("TelegramBot (like TwitterBot)", 1),
    Program("Mozilla/5.0 (compatible; YandexAntivirus/2.0; +http://yandex.com/bots)", 3),
)
PERSON: VisitorHeaders = {
    "User-Agent": (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 "
        "(KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
    ),
    "Accept-Language": "en",
    "Sec-Fetch-Mode": "navigate",
}


class Visitors:
    """Knows how far it came in the simulator's clicks; `people` followed a link so far."""

    def __init__(self, place: Stage) -> None:
        self._place = place
        self._offset = 0
        self.people = 0

    def follow(self) -> list[Click]:
        """Follows the links that were clicked since the last time, and returns their clicks. Nobody
        can follow what has no link. Raises CampaignFailed."""
        clicks: list[Click] = []
        while (page := self._place.simulator.clicks(self._offset)).clicks:
            clicks += (click for click in page.clicks if click.link)
            self._offset = page.next_offset
        if clicks:
            self._fetch(clicks)
            self.people += len(clicks)
        return clicks

    def _fetch(self, clicks: Sequence[Click]) -> None:
        connection = self._place.api(SHOP).connect()
        try:
            for link, headers in visits(clicks):
                connection.request("GET", urlsplit(link).path, headers=headers)
                response = connection.getresponse()
                response.read()
                if response.status != http.client.FOUND:
                    raise CampaignFailed(f"A link was answered {response.status}: {link}")
        finally:
            connection.close()


def visits(clicks: Sequence[Click]) -> Iterator[tuple[str, VisitorHeaders]]:
    """Each link with the headers of who fetches it, in order."""
    for number, click in enumerate(clicks):
        for program in PROGRAMS:
            if number % program.every == 0:
                yield click.link, {"User-Agent": program.user_agent}
        yield click.link, PERSON
