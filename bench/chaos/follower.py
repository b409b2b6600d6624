"""Somebody who follows links throughout: one at each ingress, who makes a link, follows it some
times over the same connection, and makes the next.

A connection is to one worker, whose id stands in its request ids. What was sent on (302) is written
down with its time, and so is how often no answer came: then nobody knows whether it counts. An
answer that it does not expect is a fault of the load's.
"""

from __future__ import annotations

import http.client
import json
import time
from typing import Any

from bench.chaos.load import Load

TIMEOUT_S = 6.0
AGAIN_S = 0.3
PAUSE_S = 0.008  # the load's shape: between two clicks
FOLLOWED = 20  # times, one link
LINKS_MIN = 5  # so many at least, however short the load is
LINK = json.dumps({"url": "https://shop.example/storm"}).encode()
PHONE = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 Chrome/130.0 Mobile Safari"
VISITORS = (
    ("", {"User-Agent": PHONE, "Accept-Language": "ru"}),
    ("?q=1", {"User-Agent": PHONE, "Accept-Language": "ru"}),
    ("", {"User-Agent": "WhatsApp/2.23"}),
)


class Follower:
    """`run` is its thread. `followed` are links in their order, each with its worker, when it
    answered, and how often no answer came."""

    def __init__(self, load: Load, port: int) -> None:
        self._load = load
        self._port = port
        self.followed: list[dict[str, Any]] = []

    def run(self) -> None:
        while not self._load.is_over() or len(self.followed) < LINKS_MIN:
            way = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
            try:
                well = self._follow(way)
            except (OSError, http.client.HTTPException, ValueError):
                well = False
            finally:
                way.close()
            if not well:
                time.sleep(AGAIN_S)  # the load's shape: a person tries again after a moment

    def _follow(self, way: http.client.HTTPConnection) -> bool:
        """Makes a link and follows it; False when the ingress has no answer to that now."""
        headers = {"Authorization": f"Bearer {self._load.key}", "Content-Type": "application/json"}
        way.request("POST", "/v1/links", LINK, headers)
        reply = way.getresponse()
        told = json.loads(reply.read())
        if reply.status != 200:
            if reply.status not in (429, 503):
                self._load.fault(f"POST /v1/links: {reply.status} {told}")
            return False
        worker = reply.getheader("X-Request-Id", "").partition("-")[0]
        link: dict[str, Any] = {"code": told["code"], "worker": worker}
        link |= {"answered_ms": [], "unanswered": 0}
        self.followed.append(link)
        for number in range(FOLLOWED):
            time.sleep(PAUSE_S)
            if reply.will_close:
                break
            query, headers = VISITORS[number % len(VISITORS)]
            try:
                way.request("GET", f"/l/{told['code']}{query}", headers=headers)
                reply = way.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException):
                link["unanswered"] += 1
                return False
            if reply.status == 302:
                link["answered_ms"].append(round(time.time() * 1_000))
            elif reply.status == 503:
                return False
            else:
                self._load.fault(f"GET /l/{told['code']}: {reply.status}")
        return True
