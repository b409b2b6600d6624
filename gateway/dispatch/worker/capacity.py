"""How much more one provider's worker may take on, read from what is in flight and in the queue.

The bounds are `connections` requests (where dispatchers share sessions they change, and mean so
many full ones), and
`claim_max` messages granted for and not recorded. Only open shards count: what an outage holds up
takes no room and no tokens from the others. How long a claim and a request take of late is kept
here; nothing else is changed. Times are trio's seconds.
"""

from __future__ import annotations

import math
from typing import Literal

from gateway.dispatch.worker.in_flight import InFlight
from gateway.dispatch.worker.send_queue import KEEP_OF, KEPT_MAX, SendQueue
from gateway.dispatch.worker.shards import Shards

LEAD_MAX_S = 0.05  # tokens are granted for the moment a claim is expected to be made, at most this
PACE_S = 0.005  # two small takes stand so far apart, unless an otp waits: each costs as a large one


class Capacity:
    def __init__(
        self,
        in_flight: InFlight,
        queue: SendQueue,
        shards: Shards,
        *,
        batch: int,
        connections: int,
        claim_max: int,
        places: int | None = None,
    ) -> None:
        self._in_flight = in_flight
        self._queue = queue
        self._shards = shards
        self._batch = batch
        self._connections = 0 if places else connections
        self._by_window = places is not None
        self._whole = connections, places or 1
        self._claim_max = claim_max
        self._claim_s = 0.0
        self._send_s = 0.0

    def hold_places(self, count: int) -> None:
        """The share of the connections that goes with so many of the provider's sessions; at least
        one with any."""
        connections, places = self._whole
        self._connections = max(connections * count // places, min(count, 1))
        self._in_flight.freed()

    @property
    def can_send(self) -> bool:
        """Not without one of the provider's sessions, where dispatchers share them."""
        return self._connections > 0

    def claim_took(self, seconds: float) -> None:
        self._claim_s += (seconds - self._claim_s) / 8

    def request_took(self, seconds: float) -> None:
        self._send_s += (seconds - self._send_s) / 8 if self._send_s else seconds

    def _claiming(self) -> int:
        """Messages whose claim is expected soon."""
        return self._in_flight.claiming_of(self._shards.open)

    def lead_s(self) -> float:
        """How long before its tokens' moment a batch is claimed: half as long again as a claim
        takes of late, so most are made by then and none waits much for its tokens."""
        return min(1.5 * self._claim_s, LEAD_MAX_S)

    def tokens(self, now: float) -> int:
        """Granted and not used."""
        return self._in_flight.granted + self._in_flight.imminent + self._queue.tokens(now)

    def room(self, now: float, *, alone: bool) -> int:
        """How many more messages tokens may be taken for; `alone`: nothing may be beside one
        request."""
        flight = self._in_flight
        requests = self._requests_max(alone=alone)
        if not alone:
            requests += self._requests_ahead()
        waiting = max(flight.granted + flight.imminent, self._claiming() + len(self._queue))
        room = self._beside(requests, alone=alone) - waiting
        return max(min(room, self.claimable()), self.tokenless(now, alone=alone))

    def limited_by(self) -> Literal["connections", "claim_max"] | None:
        """Which bound of the settings is reached."""
        if self._beside(self._connections, alone=False) <= 0:
            return "connections"
        return "claim_max" if self.claimable() <= 0 else None

    def claimable(self) -> int:
        """How many more messages may be claimed beside those there are tokens for; none where
        nothing can be sent from here."""
        if not self.can_send:
            return 0
        held = self._in_flight.messages_of(self._shards.open)
        return self._claim_max - held - self._in_flight.granted

    def express_room(self, now: float, quantum: int) -> int:
        """How many more otp may be claimed without being selected for tokens.

        When nothing else goes, as many as one grant serves; else as many as tokens are kept for,
        and none where a grant is too small to keep any."""
        room = quantum
        if self.tokens(now):
            room = KEPT_MAX if quantum >= KEEP_OF else 0
        return min(room - self._in_flight.express - self._queue.otp(), self.claimable())

    def _requests_ahead(self) -> int:
        """As many requests as end while others are claimed, so that no connection waits for that:
        31 of 50 were in use at a provider of single messages without it (2026-11-21)."""
        if not self._send_s:
            return 0
        share = (PACE_S + 2 * self._claim_s) / self._send_s
        return math.ceil(self._connections * min(share, 1.0))

    def free(self, *, alone: bool) -> int:
        """How many messages the connections that are free take."""
        return self._beside(self._requests_max(alone=alone), alone=alone)

    def _beside(self, requests: int, *, alone: bool) -> int:
        """How many messages go beside those that are under way, with so many requests in all. A
        session's window is bounded by messages, however few a request has: counted by requests, a
        rate of 200/s whose answers took 100 ms was used by 36 messages/s, and is by 137 to the last
        receipt (600 messages, twice in turn, 2026-11-29)."""
        flight = self._in_flight
        if self._by_window and not alone:
            return requests * self._batch - flight.sending
        return (requests - flight.requests) * self._batch

    def _requests_max(self, *, alone: bool) -> int:
        return min(self._connections, 1) if alone else self._connections

    def whole(self, room: int, now: float) -> int:
        """How many of `room` messages go now: whole requests where there are tokens for one and the
        rest of it is being claimed. A part costs as much as the whole: without this, 30,000
        messages of a stream went in up to 429 requests instead of 300 (2026-11-22). An otp waits
        for nothing."""
        tokens = self._queue.tokens(now)
        coming = self.coming()
        if tokens < self._batch or self._queue.otp() or not coming:
            return room
        fitting = min(room, tokens, len(self._queue))
        return fitting - fitting % self._batch

    def coming(self) -> int:
        """Messages that are about to be ready, or may be."""
        return self._in_flight.selecting + self._claiming()

    def tokenless(self, now: float, *, alone: bool) -> int:
        """Claimed messages that lack nothing but tokens: theirs lapsed, or they came late."""
        return min(len(self._queue), self.free(alone=alone)) - self.tokens(now)

    def claimed_already(self, now: float) -> int:
        """Messages that are claimed, or nearly, and there are no tokens for."""
        return self._claiming() + len(self._queue) - self.tokens(now)

    def unserved(self, waiting: int, now: float) -> int:
        """Messages there are no tokens for, `waiting` being those that are not selected."""
        return waiting + self.claimed_already(now)

    def lacking(self, now: float) -> int:
        """How many messages are to be selected for the tokens that are about to be used."""
        tokens = self._in_flight.imminent + self._queue.tokens(now)
        return tokens - self.coming() - len(self._queue)
