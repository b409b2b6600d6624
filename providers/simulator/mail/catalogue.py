"""The words of those who carry e-mail. Their ids start where no other provider has any, so that a
knob which names one means one of these; what each service calls them is its twin's."""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec.structs import replace

from providers.simulator.vocabulary import (
    Catalogue,
    SigningHeaders,
    State,
    Status,
    state_catalogue,
)

_BASE: Final = 8_000
_WORDS: Final = ("TAKEN", "REFUSED", "DELIVERED", "BOUNCED", "EXPIRED")
NO_SUCH_ADDRESS: Final = Status(State.REJECTED, 8_404, "NO_SUCH_ADDRESS")
HARD_BOUNCE: Final = Status(State.UNDELIVERED, 8_405, "HARD_BOUNCE")


class Bounce(NamedTuple):
    """What the server that does not take a mail answers, of which services tell."""

    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}"


def bounce(hard: bool) -> Bounce:
    if hard:
        return Bounce(550, "5.1.1", "No such user")
    return Bounce(552, "5.2.2", "Mailbox full")


def catalogue(
    provider: str, reports_max: int | None = None, headers: SigningHeaders | None = None
) -> Catalogue:
    words = state_catalogue(provider, _BASE, _WORDS, NO_SUCH_ADDRESS, HARD_BOUNCE)
    return replace(
        words,
        seen_channels=frozenset({"email"}),
        absent=(HARD_BOUNCE.id, words.no_error.id),
        reports_max=reports_max,
        headers=headers,
    )
