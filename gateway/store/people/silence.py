"""Who reacted lately, where a campaign asks for it: by what persons hold something for.

A record says when its person reacted last from the moment on at which somebody asked. Before that
the messages say it for which the person holds a claim or a cap slot: they are read for requests of
such a campaign, a round trip a batch, and what they say is written with the person if a message is
accepted. A message that cannot be read says nothing. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from gateway.core.campaigns.audience import note_reaction, reacted_ms
from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.message_codec import unpack_message
from gateway.core.records.moved import MovedError
from gateway.core.records.person import Person
from gateway.store.base import StoreBase, read_messages

LOOKED_MAX = 16  # messages of a person, the newest


async def look_for_reactions(
    store: StoreBase, asked: Iterable[tuple[str | None, Sequence[Person]]]
) -> None:
    """Notes in these persons' records, in place, when each reacted last, for those campaigns that
    ask it."""
    declared, held = store.policy.declared, dict[str, list[Person]]()
    for name, people in asked:
        campaign = declared.of(name)
        if campaign is None or not campaign.silent_ms:
            continue
        for person in people:
            for id_ in _held_by(person):
                held.setdefault(id_, []).append(person)
    if not held:
        return
    for id_, found in (await read_messages(store, held)).items():
        if found.value is None:
            continue
        with suppress(NewerRecordError, UnreadableRecordError, MovedError):
            if at_ms := reacted_ms(unpack_message(id_, found.value)):
                for person in held[id_]:
                    note_reaction(person, at_ms)


def _held_by(person: Person) -> list[str]:
    """The messages that it holds something for; ids are in the order of their making."""
    ids = {claim.message for claim in person.claims.values()}
    ids.update(slot.message for slot in person.slots)
    return sorted(ids)[-LOOKED_MAX:]
