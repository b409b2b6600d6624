"""Where links stand when `links.base_url` is not `{public_url}/l`: on a domain of its own, or below
another path. Pure.

On a domain of its own there are links, at the path that it says, and beside them what else people
open (`/o` and `/u`); the API is not there. Nothing of a request is believed but its path.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from gateway.core.links.urls import LinkRules

USUAL = "/l"
BESIDE = ("/o/", "/u/")
NOWHERE = "/l/"  # at which there is nothing


class LinkPaths:
    def __init__(self, rules: LinkRules, public_url: str) -> None:
        mine, root = urlsplit(rules.base_url), urlsplit(rules.root)
        self._host = mine.netloc.lower().encode()
        self._alone = mine.netloc.lower() != urlsplit(public_url).netloc.lower()
        self._links = mine.path + "/"
        self._beside = tuple((root.path + each, each) for each in BESIDE)
        self.usual = not self._alone and mine.path == USUAL

    def path_of(self, host: bytes | None, path: str) -> str:
        """The path of the route table that a request's path stands for."""
        if (host or b"").lower() != self._host:
            return path
        for begin, usual in self._beside:
            if path.startswith(begin):
                return usual + path[len(begin) :]
        if path.startswith(self._links):
            return f"{USUAL}/{path[len(self._links) :]}"
        return NOWHERE if self._alone else path
