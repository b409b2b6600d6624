"""Where links stand when `links.base_url` is not `{public_url}/l`: on a domain of its own, or below
another path. Pure.

On a domain of its own there are links, at the path that it says or another one that it had before,
and beside them what else people open (`/o` and `/u`); the API is not there. Nothing of a request is
believed but its path.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from gateway.core.links.urls import LinkRules

USUAL = "/l"
BESIDE = ("/o/", "/u/")
# What stands there has such a code, and what may have been before it where `base_url` was longer.
BESIDE_CODE = "[A-Za-z0-9_-]{22}"
BEFORE = r"/(?!v[0-9]+/)(?:[^/]+/)+"
NOWHERE = "/l/"  # at which there is nothing

_beside_at_end = re.compile(rf"/(?:[^/]+/)*([ou]/{BESIDE_CODE}(?:\.gif)?)").fullmatch
_code_at_end = re.compile(r"/(?:[^/]+/)*([A-Za-z0-9_-]+)/?").fullmatch  # or a slug


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
        if not self._alone:
            return path
        if (beside := _beside_at_end(path)) is not None:
            return f"/{beside[1]}"
        link = _code_at_end(path)
        return NOWHERE if link is None else f"{USUAL}/{link[1]}"
