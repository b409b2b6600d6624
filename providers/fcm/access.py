"""The access token of a service account: asked for once, kept, and renewed by one at a time.

It is renewed some minutes before it ends, by whoever needs it then, while all others go on with the
old one. Where that fails the old one is used until its end. Nobody waits for one beyond a patience:
without a token nothing was sent, which must be said before the caller's own time is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from providers.contract import AccountFault, NotSent, SendFault
from providers.fcm.service_account import AccessToken

EARLY_S = 300.0  # before its end
AGAIN_S = 30.0  # after a renewal that failed


class Access:
    """`ask` fetches a new one."""

    def __init__(self, ask: Callable[[], Awaitable[AccessToken]], patience_s: float) -> None:
        self._ask = ask
        self._patience_s = patience_s
        self._asking = trio.Lock()
        self._token = ""
        self._renew_at = self._ends_at = 0.0

    async def token(self) -> str:
        """One that is good now. Raises NotSent where none can be had, since nothing was sent by it,
        and AccountFault where the account is refused one and the old one is over."""
        now = trio.current_time()
        if now < self._renew_at or (now < self._ends_at and self._asking.locked()):
            return self._token
        with trio.move_on_after(self._patience_s):
            async with self._asking:
                if trio.current_time() >= self._renew_at:
                    await self._renew()
                return self._token
        if trio.current_time() < self._ends_at:
            self._renew_at = min(trio.current_time() + AGAIN_S, self._ends_at)
            return self._token
        raise NotSent("token_timeout", "There is no access token: none came in time.")

    def refused(self, token: str) -> None:
        """That one is not good any more."""
        if token == self._token:
            self._renew_at = self._ends_at = 0.0

    async def _renew(self) -> None:
        try:
            given = await self._ask()
        except SendFault as fault:
            now = trio.current_time()
            if now < self._ends_at:
                self._renew_at = min(now + AGAIN_S, self._ends_at)
                return
            if isinstance(fault, AccountFault):
                raise
            raise NotSent(
                f"token_{fault.code}", f"There is no access token: {fault.detail}"
            ) from fault
        now = trio.current_time()
        self._token = given.access_token
        self._ends_at = now + given.expires_in
        self._renew_at = max(self._ends_at - EARLY_S, now + given.expires_in / 2)
