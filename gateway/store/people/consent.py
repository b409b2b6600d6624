"""Whether people said yes to what is sent to them, where a category needs that.

Consent is recorded with the stored user that a message names, or that one of its addresses belongs
to: two round trips a batch where `[consent] require` names a category of it, none otherwise. Raises
RedisUnavailable, and for a record that cannot be read NewerRecordError and UnreadableRecordError.
"""

from __future__ import annotations

from collections.abc import Collection

from gateway.core.people.consent import lacking
from gateway.core.people.opt_outs import OptOuts
from gateway.core.records.message import Message
from gateway.core.records.request import MessageRequest
from gateway.store.base import StoreBase
from gateway.store.people import address_owners, users


async def lacking_for(
    store: StoreBase, asked: Collection[Message | MessageRequest]
) -> dict[str, OptOuts]:
    """By message, the channels on which its person said yes to nothing of its category."""
    consent = store.policy.consent
    needing = [each for each in asked if each.category in consent] if consent else []
    if not needing:
        return {}
    named = {each.id: each.identities for each in needing}
    addresses = dict.fromkeys(i for some in named.values() for i in some if i[0] != "u")
    owners = await address_owners.read(store, addresses)
    found: dict[str, list[str]] = {}
    for each in needing:
        scope = each.app if each.own_users else ""
        own = [i[2:] for i in named[each.id] if i[0] == "u"]
        theirs = [owners[i][scope] for i in named[each.id] if scope in owners.get(i, {})]
        found[each.id] = own + theirs
    kept = await users.read(store, [user for some in found.values() for user in some])
    return {
        each.id: lacking(
            each.category, [c for u in found[each.id] if u in kept for c in kept[u].consent]
        )
        for each in needing
    }
