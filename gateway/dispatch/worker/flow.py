"""How much is under way in one lane, and how much more may be: the lane's arithmetic.

Owns the counts of tokens, messages and requests from a lease to the record, and how long a claim
and a request take of late. Pure: the lane counts, and gives the time (trio's seconds). The bounds
are `connections` requests and `claim_max` messages leased for and not recorded.
"""

from __future__ import annotations

import math

from gateway.dispatch.worker.ready import KEEP_OF, KEPT_MAX, Ready

LEAD_MAX_S = 0.05  # tokens are leased for the moment a claim is expected to be made, at most this
PACE_S = 0.005  # two small takes stand so far apart, unless a code waits: each costs as a large one


class Flow:
    def __init__(self, ready: Ready, *, batch: int, connections: int, claim_max: int) -> None:
        self._ready = ready
        self._batch = batch
        self._connections = connections
        self._claim_max = claim_max
        self.ahead = 0  # tokens leased for messages that are not picked yet
        self.near = 0  # tokens whose messages are picked and whose moment has not come
        self.picking = 0  # messages about to be picked
        self.claiming = 0  # picked, and the claim is not heard of
        self.hurrying = 0  # of these, codes that were not picked for tokens
        self.messages = 0  # picked and not recorded
        self.requests = 0  # on their way, not answered
        self._claim_s = 0.0
        self._send_s = 0.0

    def claim_took(self, seconds: float) -> None:
        self._claim_s += (seconds - self._claim_s) / 8

    def request_took(self, seconds: float) -> None:
        self._send_s += (seconds - self._send_s) / 8 if self._send_s else seconds

    def lead_s(self) -> float:
        """How long before its tokens' moment a batch is claimed: half as long again as a claim
        takes of late, so most are made by then and none waits much for its tokens."""
        return min(1.5 * self._claim_s, LEAD_MAX_S)

    def tokens(self, now: float) -> int:
        """Leased and not used."""
        return self.ahead + self.near + self._ready.tokens(now)

    def room(self, now: float, *, alone: bool) -> int:
        """How many more messages may be leased for; `alone`: nothing may be beside one request."""
        requests = 1 if alone else self._connections + self._requests_ahead()
        waiting = max(self.ahead + self.near, self.claiming + len(self._ready))
        room = (requests - self.requests) * self._batch - waiting
        return max(min(room, self.claimable()), self.tokenless(now, alone=alone))

    def claimable(self) -> int:
        """How many more messages may be claimed beside those there are tokens for."""
        return self._claim_max - self.messages - self.ahead

    def hurrying_room(self, now: float, quantum: int) -> int:
        """How many codes more may be claimed without being picked for tokens.

        When nothing else goes, as many as one lease serves; else as many as tokens are kept for,
        and none where a lease is too small to keep any."""
        room = quantum
        if self.tokens(now):
            room = KEPT_MAX if quantum >= KEEP_OF else 0
        return min(room - self.hurrying - self._ready.codes(), self.claimable())

    def _requests_ahead(self) -> int:
        """As many requests as end while others are claimed, so that no connection waits for that:
        31 of 50 were in use at a provider of single messages without it (2026-11-21)."""
        if not self._send_s:
            return 0
        share = (PACE_S + 2 * self._claim_s) / self._send_s
        return math.ceil(self._connections * min(share, 1.0))

    def free(self, *, alone: bool) -> int:
        """How many messages the connections that are free take."""
        return ((1 if alone else self._connections) - self.requests) * self._batch

    def whole(self, room: int, now: float) -> int:
        """How many of `room` messages go now: whole requests where there are tokens for one and the
        rest of it is being claimed. A part costs as much as the whole: without this, 30,000
        messages of a stream went in up to 429 requests instead of 300 (2026-11-22). A code waits
        for nothing."""
        tokens = self._ready.tokens(now)
        if tokens < self._batch or self._ready.codes() or not self.picking + self.claiming:
            return room
        fitting = min(room, tokens, len(self._ready))
        return fitting - fitting % self._batch

    def tokenless(self, now: float, *, alone: bool) -> int:
        """Claimed messages that lack nothing but tokens: theirs lapsed, or they came late."""
        return min(len(self._ready), self.free(alone=alone)) - self.tokens(now)

    def claimed_already(self, now: float) -> int:
        """Messages that are claimed, or nearly, and there are no tokens for."""
        return self.claiming + len(self._ready) - self.tokens(now)

    def unserved(self, waiting: int, now: float) -> int:
        """Messages there are no tokens for, `waiting` being those that are not picked."""
        return waiting + self.claimed_already(now)

    def lacking(self, now: float) -> int:
        """How many messages are to be picked for the tokens that are about to be used."""
        tokens = self.near + self._ready.tokens(now)
        return tokens - self.picking - self.claiming - len(self._ready)
