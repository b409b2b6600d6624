"""Whoever is on duty: a browser with a key, at the console of an ingress in memory."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from urllib.parse import urlencode

from gateway.store.installation import api_keys
from gateway.store.installation.api_keys import Scope
from tests.worlds.ingress_world import T0, Answer, World

HOST = "console.example"
FORM = {"content-type": "application/x-www-form-urlencoded", "host": HOST}


class Operator:
    """A browser with a key."""

    def __init__(self, world: World, key: str) -> None:
        self.world = world
        login = base64.b64encode(f"anybody:{key}".encode()).decode()
        self.headers = {"authorization": f"Basic {login}", "host": HOST}

    async def get(self, path: str) -> Answer:
        return await self.world.call("GET", path, headers=self.headers, key="")

    async def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
        told = self.headers | FORM | {n.replace("_", "-"): v for n, v in headers.items()}
        return await self.world.call("POST", path, urlencode(fields).encode(), told, key="")

    async def act(self, page: str, action: str, **fields: str) -> Answer:
        """Fills in a form that a page has, and sends it."""
        shown = (await self.get(page)).body.decode()
        form = re.search(rf'<form[^>]*id="act-{action}".*?</form>', shown, re.DOTALL)
        assert form is not None, f"{page} has no form {action}"
        hidden = dict(re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', form[0]))
        return await self.post(
            "/console/act", hidden | {n.rstrip("_"): v for n, v in fields.items()}
        )


async def operator(world: World, *scopes: Scope) -> Operator:
    key = await api_keys.create(world.redis, "shop", scopes or ("operate",), T0, by="ann@here")
    return Operator(world, key)
