"""Start-up checks of a Redis: would it keep what it is given?

It looks at a server's version, settings and clock, or at every master's of a cluster.
Synchronous, by redis-py; it changes nothing. It never raises for a faulty or absent Redis: that
is a finding like the others. What a server hides (CONFIG is refused on some managed ones) is read
from INFO where it is there too.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    ResponseError,
)
from redis.retry import Retry

from gateway.redis.address import Address, AddressError, Endpoint, parse_address
from gateway.redis.cluster_slots import SLOTS, masters_of, slot_of

VERSION_MIN = (6, 2)
TIMEOUT_S = 3.0
MEMORY_SHARE_MAX_PERCENT = 80
CLOCK_US_MAX = 60_000_000  # by which a server's clock may differ from this machine's

Level = Literal["error", "warning"]


class Finding(msgspec.Struct, frozen=True):
    """One fault.

    `error`: Kaskad must not run on it. `code` is short and stable, `sentence` for people.
    """

    level: Level
    code: str
    sentence: str


def examine(url: str) -> list[Finding]:
    """Everything wrong with the Redis at `url`, in any form of `gateway.redis.address`."""
    try:
        address = parse_address(url)
        address.tls_context()
    except AddressError as fault:
        return [Finding("error", "redis_url", str(fault))]
    place = address.label
    if not address.cluster:
        return _examine(address, place)
    try:
        masters = masters_now(address)
    except ResponseError as fault:
        sentence = (
            f"Redis at {place} is no cluster ({fault}): write redis.url without +cluster, or start "
            "its nodes with cluster-enabled yes."
        )
        return [Finding("error", "redis_cluster", sentence)]
    except (redis.RedisError, OSError) as fault:
        return [_told(place, fault)]
    findings = [_coverage(place, masters)]
    for endpoint in dict.fromkeys(masters.values()):
        findings += _examine(address.of_node(endpoint), endpoint.label, in_cluster=True)
    return [finding for finding in findings if finding is not None]


def _examine(address: Address, place: str, *, in_cluster: bool = False) -> list[Finding]:
    try:
        with connect(address) as client:
            info: dict[str, Any] = client.info()
            now_us = time.time_ns() // 1_000
            settings = _settings(client)
    except (redis.RedisError, OSError) as fault:
        return [_told(place, fault)]
    return judge_server(place, info, settings, now_us, in_cluster=in_cluster)


def _told(place: str, fault: Exception) -> Finding:
    """Why a server could not be asked."""
    if isinstance(fault, AuthenticationError):
        sentence = f"Redis at {place} refused the log-in: {fault}. Correct the password in its URL."
        return Finding("error", "redis_login", sentence)
    if isinstance(fault, BusyLoadingError):
        sentence = f"Redis at {place} is still loading its data: wait until it has."
        return Finding("error", "redis_loading", sentence)
    if isinstance(fault, NoPermissionError):
        sentence = f"The user of Redis at {place} lacks a permission: {fault}. Grant it."
        return Finding("error", "redis_permission", sentence)
    if isinstance(fault, ResponseError) and "DB index" in str(fault):
        sentence = (
            f"Redis at {place} has no such database ({fault}): correct its number in the URL."
        )
        return Finding("error", "redis_url", sentence)
    sentence = (
        f"Redis at {place} cannot be reached: {str(fault).rstrip('.')}. Start it, correct "
        "redis.url, or leave redis.url empty for the embedded one."
    )
    return Finding("error", "redis_unreachable", sentence)


def judge_server(
    place: str,
    info: dict[str, Any],
    settings: dict[str, str],
    now_us: int,
    *,
    in_cluster: bool = False,
) -> list[Finding]:
    """What INFO and CONFIG GET tell. Pure; `settings` lacks what the server would not show, and
    `now_us` is when INFO came.

    `in_cluster`: redis.url names a cluster, and the server was found as one of its masters.
    """
    findings = [
        _version(place, info),
        _eviction(place, info, settings),
        _replica(place, info),
        None if in_cluster else _cluster(place, info),
        _persistence(place, info, settings),
        _append_only_writes(place, info),
        _memory(place, info),
        _clock(place, info, now_us),
    ]
    return [finding for finding in findings if finding is not None]


def connect(address: Address, *, decode: bool = True, key: str = "") -> redis.Redis:
    """A client of the Redis, of the master its sentinels name, or of the node of a cluster that
    serves `key`; `decode` False gives bytes.

    Connects when it is first used. Raises redis.RedisError when nobody names such a node.
    """
    endpoint = address.endpoints[0]
    if address.service is not None:
        endpoint = _master(address, address.service)
    elif address.cluster:
        endpoint = _serving(address, slot_of(key))
    return _client(address, endpoint, address.username, address.password, address.db, decode=decode)


def connect_masters(address: Address) -> dict[range, redis.Redis]:
    """Clients of a cluster's masters, for bytes, by the slots each serves. Raises as
    `masters_now`."""
    masters = masters_now(address)
    clients = {
        node: _client(address, node, address.username, address.password, 0, decode=False)
        for node in set(masters.values())
    }
    return {slots: clients[node] for slots, node in masters.items()}


def masters_now(address: Address) -> dict[range, Endpoint]:
    """Who serves which slots of a cluster. Raises redis.RedisError when no node tells."""
    reasons: list[str] = []
    for node in address.endpoints:
        with _client(address, node, address.username, address.password, 0, decode=False) as client:
            try:
                # In two words, so that the client leaves the answer as it is.
                answer = client.execute_command("CLUSTER", "SLOTS")
            except AuthenticationError:
                raise  # all nodes have the same users
            except (redis.ConnectionError, redis.TimeoutError, OSError) as fault:
                reasons.append(f"{node.label}: {fault}")
                continue
        if answer:
            return masters_of(answer, node)
        reasons.append(f"{node.label} has no slots and knows nobody who has")
    raise redis.ConnectionError("; ".join(reasons))


def _serving(address: Address, slot: int) -> Endpoint:
    for slots, endpoint in masters_now(address).items():
        if slot in slots:
            return endpoint
    raise redis.ConnectionError(f"no node of the cluster serves slot {slot}")


def _master(address: Address, service: str) -> Endpoint:
    reasons: list[str] = []
    for sentinel in address.endpoints:
        try:
            with _client(address, sentinel, None, address.sentinel_password, 0) as client:
                answer = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", service)
        except (redis.RedisError, OSError) as fault:
            reasons.append(f"{sentinel.label}: {fault}")
            continue
        if answer is not None:
            return Endpoint(host=answer[0], port=int(answer[1]))
        reasons.append(f"{sentinel.label} does not know it")
    raise redis.ConnectionError(
        f"no sentinel names the master of {service!r} ({'; '.join(reasons)})"
    )


def _client(
    address: Address,
    endpoint: Endpoint,
    username: str | None,
    password: str | None,
    db: int,
    *,
    decode: bool = True,
) -> redis.Redis:
    options: dict[str, Any] = {
        "username": username,
        "password": password,
        "db": db,
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "decode_responses": decode,
        "protocol": 2,  # the replies our own client gives
        "retry": Retry(NoBackoff(), 0),
    }
    if endpoint.path is not None:
        return redis.Redis(unix_socket_path=endpoint.path, **options)
    if address.tls:
        options["ssl"] = True
        options["ssl_ca_certs"] = address.ca_file
        options["ssl_certfile"] = address.certificate_file
        options["ssl_keyfile"] = address.key_file
    return redis.Redis(host=endpoint.host, port=endpoint.port, **options)


def _settings(client: redis.Redis) -> dict[str, str]:
    found: dict[str | None, Any] = {}
    # One at a time: several at once are understood from version 7 on.
    for name in ("maxmemory-policy", "appendfsync", "save"):
        try:
            found |= client.config_get(name)
        except ResponseError:
            return {}
    return {str(name): str(value) for name, value in found.items()}


def _version(place: str, info: dict[str, Any]) -> Finding | None:
    text = str(info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if numbers >= VERSION_MIN:
        return None
    wanted = ".".join(map(str, VERSION_MIN))
    sentence = f"Redis at {place} is version {text}: Kaskad needs {wanted} or later, upgrade it."
    return Finding("error", "redis_version", sentence)


def _eviction(place: str, info: dict[str, Any], settings: dict[str, str]) -> Finding | None:
    policy = settings.get("maxmemory-policy") or str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return None
    sentence = (
        f"Redis at {place} has maxmemory-policy {policy}: when memory is short it would drop "
        "accepted messages, set it to noeviction."
    )
    return Finding("error", "redis_eviction", sentence)


def _replica(place: str, info: dict[str, Any]) -> Finding | None:
    if info.get("role", "master") == "master":
        return None
    sentence = (
        f"Redis at {place} is a replica of {info.get('master_host')}:{info.get('master_port')} and "
        "cannot be written: point redis.url at the master, or at its sentinels."
    )
    return Finding("error", "redis_replica", sentence)


def _cluster(place: str, info: dict[str, Any]) -> Finding | None:
    if not int(info.get("cluster_enabled", 0)):
        return None
    sentence = (
        f"Redis at {place} is a node of a cluster: write redis.url as redis+cluster://{place}, so "
        "that the other nodes are reached too."
    )
    return Finding("error", "redis_cluster", sentence)


def _coverage(place: str, masters: dict[range, Endpoint]) -> Finding | None:
    missing = SLOTS - sum(map(len, masters))
    if not missing:
        return None
    sentence = (
        f"Nobody serves {missing} of the {SLOTS} slots of the cluster at {place}: start the nodes "
        "that had them, or give them to others with redis-cli --cluster fix."
    )
    return Finding("error", "redis_unreachable", sentence)


def _persistence(place: str, info: dict[str, Any], settings: dict[str, str]) -> Finding | None:
    if not int(info.get("aof_enabled", 0)):
        snapshots = " (its snapshots are minutes old)" if settings.get("save") else ""
        sentence = (
            f"Redis at {place} keeps no append-only file: accepted messages are lost when it stops"
            f"{snapshots}, set appendonly yes."
        )
        return Finding("warning", "redis_persistence", sentence)
    fsync = settings.get("appendfsync", "always")
    if fsync == "always":
        return None
    lost = "the last second" if fsync == "everysec" else "up to half a minute"
    sentence = (
        f"Redis at {place} has appendfsync {fsync}: a crash can lose {lost} of accepted messages, "
        "set it to always if that is too much."
    )
    return Finding("warning", "redis_fsync", sentence)


def _append_only_writes(place: str, info: dict[str, Any]) -> Finding | None:
    if info.get("aof_last_write_status", "ok") == "ok":
        return None
    sentence = f"Redis at {place} cannot write its append-only file: make room on its disk."
    return Finding("error", "redis_disk", sentence)


def _memory(place: str, info: dict[str, Any]) -> Finding | None:
    if "maxmemory" not in info:
        return None
    used, limit = int(info.get("used_memory", 0)), int(info["maxmemory"])
    if limit == 0:
        sentence = (
            f"Redis at {place} has no maxmemory: nothing stops it before the machine's memory is "
            "full, set one, so that new messages are refused in time."
        )
        return Finding("warning", "redis_memory_unlimited", sentence)
    if used * 100 < limit * MEMORY_SHARE_MAX_PERCENT:
        return None
    sentence = (
        f"Redis at {place} uses {used * 100 // limit}% of its maxmemory of {limit} bytes: at 80% "
        "new marketing is refused, at 90% everything new. Give it more."
    )
    return Finding("warning", "redis_memory", sentence)


def _clock(place: str, info: dict[str, Any], now_us: int) -> Finding | None:
    ahead_us = int(info.get("server_time_usec", now_us)) - now_us
    if abs(ahead_us) <= CLOCK_US_MAX:
        return None
    seconds, way = abs(ahead_us) // 1_000_000, "ahead of" if ahead_us > 0 else "behind"
    sentence = (
        f"The clock of Redis at {place} is {seconds} s {way} this machine's: set both by NTP. "
        "What Kaskad does by time goes by Redis' clock; its log, and tokens that it signs for "
        "providers, by the machine's."
    )
    return Finding("warning", "redis_clock", sentence)
