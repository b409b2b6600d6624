"""The numbers that tell the parts of one text from those of another to the same person. Pure.

A telephone, or the SMSC itself, joins parts by the two addresses, this number and how many parts
there are. A header has 8 bits for it, and the rest of a sending that broke off waits for days. So
the second sending of a text never has the number of its first, whichever process sends it: joined
with old parts, some of the new ids would never get a receipt. Nor do two texts to one person share
one, as long as this process remembers. Between those of two processes chance decides, 1 in 256.
"""

from __future__ import annotations

import zlib
from typing import Final

NUMBERS: Final = 256  # that a header tells apart; of a parameter's 16 bits the lower are compared
REMEMBERED_MAX: Final = 10_000  # persons and numbers, some 2 MB


class PartReferences:
    def __init__(self) -> None:
        self._used: dict[tuple[str, int], None] = {}  # the latest use last

    def take(self, ref: str, to: str) -> int:
        """The number of a sending, below 2**16. Sendings of one text differ in the digits behind
        the first dot of their references."""
        text, _, sending = ref.partition(".")
        first = zlib.crc32(text.encode()) + sum(sending.encode())
        number = next(
            (n for n in range(first, first + NUMBERS) if (to, n % NUMBERS) not in self._used), first
        )
        pair = to, number % NUMBERS
        self._used.pop(pair, None)
        self._used[pair] = None
        if len(self._used) > REMEMBERED_MAX:
            del self._used[next(iter(self._used))]
        return number % 2**16
