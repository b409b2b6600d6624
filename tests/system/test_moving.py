"""`kaskad copy` to another Redis with another number of shards, by real processes: what callers and
the provider have in their hands is known afterwards, and what waited is sent once."""

from __future__ import annotations

import json
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gateway.redis.server.embedded import EmbeddedRedis
from tests.system.test_commands import HELLO, SHOP_KEY, Place, place, read_until, until
from tests.system.test_runbook import sent_by, stop
from tests.worlds.patience import PATIENCE_S

pytestmark = pytest.mark.system

__all__ = ["place"]  # the fixture

SHARDS = 5
PEOPLE = [HELLO | {"to": f"+4477009001{n:02}"} for n in range(12)]


def accept(place: Place, n: int) -> str:
    """A message's id: accepted now, or with the same key before."""
    headers = {"Authorization": f"Bearer {SHOP_KEY}", "Idempotency-Key": f"move-{n}"}
    body = json.dumps(PEOPLE[n]).encode()
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{place.url}/v1/messages", body, headers | {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
        return str(found["id"])


def changes_after(place: Place, last: str, wanted: set[tuple[str, str]]) -> str:
    """Reads the status changes behind an event until those that are wanted came, of which message
    to what; the id of the latest."""
    headers = {"Authorization": f"Bearer {SHOP_KEY}", "Last-Event-ID": last}
    request = urllib.request.Request(f"{place.url}/v1/events", headers=headers)  # noqa: S310
    missing, event = set(wanted), ""
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as stream:  # noqa: S310
        while missing:
            word, _, said = stream.readline().decode().strip().partition(": ")
            event = said if word == "id" else event
            if word == "data":
                data = json.loads(said)
                missing.discard((data["id"], data["status"]))
    return event


def test_an_installation_moves_to_another_redis_with_other_shards(place: Place) -> None:
    with tempfile.TemporaryDirectory(prefix="kaskad-") as folder:
        target = EmbeddedRedis(Path(folder) / "redis", "everysec")
        with target:
            ids, event = before_the_move(place)
            moved = place.run("copy", "--to", target.url, "--shards", str(SHARDS))
            assert moved.returncode == 0, moved.stderr
            assert f"and redis.shards = {SHARDS}, and start." in moved.stdout
            assert "agrees with its totals to the last unit" in moved.stdout
            again = place.run("copy", "--to", target.url, "--shards", str(SHARDS))
            assert (again.returncode, "is not empty" in again.stderr) == (2, True)
            left_behind(place)
            wrong = place.run("check", KASKAD_REDIS_URL=target.url)
            assert (wrong.returncode, f"redis.shards = {SHARDS}" in wrong.stderr) == (2, True)
            config = place.folder / "kaskad.toml"
            text = config.read_text()
            config.write_text(text.replace("[redis]", f"[redis]\nshards = {SHARDS}", 1))
            after_the_move(place, target.url, ids, event)


def left_behind(place: Place) -> None:
    """Where all was copied away nothing starts or is changed; what is there can be read."""
    for words in (["up"], ["key", "new", "--app", "shop"]):
        refused = place.run(*words)
        assert refused.returncode == 2, words
        assert "Everything here was copied to unix:" in refused.stderr, words
    read = place.run("report", "cost", "--json")
    assert (read.returncode, json.loads(read.stdout)["total"]["delivered"]) == (0, 6)
    assert "Everything here was copied to unix:" in read.stderr
    assert place.run("copy").returncode == 2
    assert place.run("copy", "--to", "redis://x", "--take-back").returncode == 2
    assert place.run("copy", "--take-back").returncode == 0
    assert "nothing to take back" in place.run("copy", "--take-back").stderr


def before_the_move(place: Place) -> tuple[list[str], str]:
    """Half of them are delivered, and half are accepted where nobody sends; and an event."""
    place.simulate()
    up = place.start("up")
    read_until(up, "Stop it with ctrl-C.")
    ids = [accept(place, 0)]
    event = changes_after(place, "0-0.0", {(ids[0], "queued")})
    ids += [accept(place, n) for n in range(1, 6)]
    until(lambda: all(place.call(f"/v1/messages/{i}")["billing"] for i in ids), "delivered")
    stop(up)
    with EmbeddedRedis(place.folder / ".kaskad/redis", "everysec"):
        serve = place.start("serve")
        until(lambda: place.call("/readyz"), "it serves")
        ids += [accept(place, n) for n in range(6, 12)]
        stop(serve)
    return ids, event


def after_the_move(place: Place, url: str, ids: list[str], event: str) -> None:
    up = place.start("up", KASKAD_REDIS_URL=url)
    read_until(up, "Stop it with ctrl-C.")
    assert [accept(place, n) for n in range(12)] == ids
    until(lambda: all(place.call(f"/v1/messages/{i}")["billing"] for i in ids), "delivered")
    assert {ref: n for ref, n in sent_by(place).items() if n != 1} == {}
    later = {(id_, status) for id_ in ids for status in ("queued", "sent", "delivered")}
    changes_after(place, event, later - {(ids[0], "queued")})
    stop(up)
    verified = place.run("report", "verify", "--full", KASKAD_REDIS_URL=url)
    assert verified.returncode == 0, verified.stdout
