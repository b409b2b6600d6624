"""`kaskad erase`: a person is forgotten, for every app.

What goes and what stays is in `gateway.store.people.persons`. Nobody of whom nothing is kept is no
fault: the command may be repeated. An address that cannot exist is a UsageFault.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.cli.failures import DONE, UsageFault, require_text
from gateway.cli.person import who
from gateway.cli.reach import redis_for_command
from gateway.cli.tables import print_json
from gateway.core.addresses import Recipient, person_id, read
from gateway.core.texts import is_blank, name_of
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.settings import bootstrap
from gateway.settings.file import Settings, load
from gateway.store import redis_clock
from gateway.store.installation import audit
from gateway.store.installation.audit import Deed
from gateway.store.people import persons
from gateway.store.people.persons import Erasure
from gateway.store.store import Store


class NamedPerson(msgspec.Struct, frozen=True):
    """By what a person is named on the command line; `app` is whose user id it is."""

    to: Recipient = Recipient()
    user: str | None = None
    app: str | None = None


def erase(
    config: Path | None, environment: Mapping[str, str], named: NamedPerson, *, as_json: bool
) -> int:
    """Erases one person."""
    settings = load(config, environment, secrets_required=False)
    identity = identity_of(named, settings)
    policy = bootstrap.policy_of(settings, bootstrap.load_prices(settings))
    retention = bootstrap.retention_of(settings)

    async def work(redis: RedisClient) -> Erasure:
        now_ms = await redis_clock.now_ms(redis)
        store = Store(redis, policy, shards=settings.redis.shards, retention=retention)
        told = await persons.erase(store, await persons.find(store, identity, now_ms), now_ms)
        deed = Deed(now_ms, who(), "person.erase", detail="person")
        await audit.note(redis, deed, of_app=False)
        return told

    with redis_for_command(settings, changes=True) as url:
        told = run(url, work)
    if as_json:
        print_json(told)
    else:
        sys.stdout.write(
            f"Erased: {told.messages} messages, of which {told.cancelled} were cancelled. Opt-outs "
            "and the ledger's money stay.\n"
        )
    return DONE


def identity_of(named: NamedPerson, settings: Settings) -> str:
    """The identity that a person is found by. Raises UsageFault."""
    if sum(map(bool, (*msgspec.structs.astuple(named.to), named.user))) != 1:
        raise UsageFault("Name the person once, by an address or by its user id.")
    own = settings.dedupe.users == "app"
    if named.user and own != bool(named.app):
        needed = "each app has its own user ids: add --app" if own else "leave --app out"
        raise UsageFault(f'dedupe.users is "{settings.dedupe.users}": {needed}.')
    if named.user:
        require_text("--user", named.user)
        if is_blank(named.user):
            raise UsageFault("--user shows nothing: name the user as messages do.")
        return f"u:{person_id(name_of(named.user), named.app or '')}"
    if named.app:
        raise UsageFault("Whom an address reaches is forgotten for every app: leave --app out.")
    found = read(named.to)
    if isinstance(found, list):
        raise UsageFault(found[0].detail)
    (identity,) = found.addresses.identities(None)
    return identity
