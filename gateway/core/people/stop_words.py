"""Whether what a person wrote is a wish not to be written to, or to be again. Pure.

A reply is one when it is exactly one of the words: case, spaces, punctuation and what is no letter
aside, and with letters that look alike in Latin and Cyrillic taken for one another.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Literal

StopWish = Literal["stop", "stop_all", "start"]

REPLY_CHARS_MAX = 64  # of a text that can be a word
STOP = (
    *("stop", "unsubscribe", "cancel", "end", "quit", "revoke", "opt out", "remove"),
    *("стоп", "отписка", "отписаться", "отказ", "отмена", "хватит", "не пишите"),
)
STOP_ALL = ("stop all", "стоп все")
START = ("start", "unstop", "старт", "подписка")

_LATIN = "abcehkmoptxy"
_TO_CYRILLIC = str.maketrans(_LATIN, "авсенкмортху")


def words_of(words: Iterable[str]) -> frozenset[str]:
    """The words as replies are compared with them. One without a letter or digit is none: every
    reply without any would be it."""
    return frozenset(map(_plain, words)) - {""}


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold().replace("ё", "е")
    return "".join(char for char in folded if char.isalnum())


SHIPPED = words_of(STOP)
_STOP_ALL, _START = words_of(STOP_ALL), words_of(START)


def wish_in(text: str, stop: frozenset[str]) -> StopWish | None:
    """What a reply wishes; `stop` are the words that `words_of` gave."""
    if len(text) > REPLY_CHARS_MAX:
        return None
    word = _plain(text)
    for read in (word, word.translate(_TO_CYRILLIC)):
        if read in _STOP_ALL:
            return "stop_all"
        if read in stop:
            return "stop"
        if read in _START:
            return "start"
    return None
