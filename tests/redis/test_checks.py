"""Start-up checks: each fault of a server is found, told, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.redis.server.checks import Finding, examine, judge_server
from gateway.redis.server.embedded import EmbeddedRedis
from tests.worlds.fake_redis import Canned, listen_tcp

NOW_US = 1_795_000_000_000_000
HEALTHY: dict[str, Any] = {
    "server_time_usec": NOW_US,
    "redis_version": "6.2.14",
    "role": "master",
    "cluster_enabled": 0,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "used_memory": 900,
    "maxmemory": 100_000,
    "maxmemory_policy": "noeviction",
}
SETTINGS = {"maxmemory-policy": "noeviction", "appendfsync": "always", "save": ""}


def codes(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.level, finding.code) for finding in findings]


def test_the_embedded_server_has_nothing_to_complain_about(short_dir: Path) -> None:
    with EmbeddedRedis(short_dir) as server:
        assert examine(server.url) == []


@pytest.mark.parametrize(
    ("info", "settings", "expected"),
    [
        ({}, {}, []),
        ({"redis_version": "7.4.0"}, {}, []),
        ({"redis_version": "10.0.0"}, {}, []),
        ({"redis_version": "6.0.16"}, {}, [("error", "redis_version")]),
        ({"redis_version": "5.0.7"}, {}, [("error", "redis_version")]),
        ({}, {"maxmemory-policy": "allkeys-lru"}, [("error", "redis_eviction")]),
        ({}, {"maxmemory-policy": "volatile-ttl"}, [("error", "redis_eviction")]),
        ({"role": "slave"}, {}, [("error", "redis_replica")]),
        ({"cluster_enabled": 1}, {}, [("error", "redis_cluster")]),
        ({"aof_enabled": 0}, {"save": "3600 1"}, [("warning", "redis_persistence")]),
        ({"aof_enabled": 0}, {"appendfsync": "no"}, [("warning", "redis_persistence")]),
        ({}, {"appendfsync": "everysec"}, [("warning", "redis_fsync")]),
        ({}, {"appendfsync": "no"}, [("warning", "redis_fsync")]),
        ({"aof_last_write_status": "err"}, {}, [("error", "redis_disk")]),
        ({"maxmemory": 1125}, {}, [("warning", "redis_memory")]),
        ({"maxmemory": 1126}, {}, []),
        ({"maxmemory": 0}, {}, [("warning", "redis_memory_unlimited")]),
        ({"server_time_usec": NOW_US + 60_000_000}, {}, []),
        ({"server_time_usec": NOW_US + 60_000_001}, {}, [("warning", "redis_clock")]),
        ({"server_time_usec": NOW_US - 60_000_001}, {}, [("warning", "redis_clock")]),
    ],
)
def test_each_fault_of_a_server_is_found_alone(
    info: dict[str, Any], settings: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    findings = judge_server("here", HEALTHY | info, SETTINGS | settings, NOW_US)
    assert codes(findings) == expected
    assert all("here" in finding.sentence for finding in findings)


def test_what_config_hides_is_read_from_info() -> None:
    info = HEALTHY | {"maxmemory_policy": "allkeys-lfu"}
    assert codes(judge_server("here", info, {}, NOW_US)) == [("error", "redis_eviction")]


def test_by_how_much_and_which_way_a_clock_is_wrong_is_said() -> None:
    def said(ahead_us: int) -> str:
        info = HEALTHY | {"server_time_usec": NOW_US + ahead_us}
        (finding,) = judge_server("here", info, SETTINGS, NOW_US)
        return finding.sentence

    assert "here is 7200 s ahead of this machine's" in said(7_200_000_000)
    assert "here is 90 s behind this machine's" in said(-90_000_000)


def test_a_real_server_s_faults_are_found(short_dir: Path) -> None:
    with (
        EmbeddedRedis(short_dir, "everysec") as server,
        redis.Redis(unix_socket_path=str(server.socket_path)) as client,
    ):
        client.config_set("maxmemory", 100 * 1024 * 1024)
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert codes(examine(server.url)) == [
            ("error", "redis_eviction"),
            ("warning", "redis_fsync"),
        ]
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("appendonly", "no")
        client.replicaof("127.0.0.1", "1")
        assert codes(examine(server.url)) == [
            ("error", "redis_replica"),
            ("warning", "redis_persistence"),
        ]


def test_a_server_without_cluster_support_is_no_cluster() -> None:
    refusal = b"-ERR This instance has cluster support disabled\r\n"
    answers = {"CLUSTER": refusal, "CLIENT": b"+OK\r\n", "HELLO": b"-ERR unknown\r\n"}
    listener = listen_tcp()
    with Canned(listener, answers):
        findings = examine(f"redis+cluster://127.0.0.1:{listener.getsockname()[1]}")
    assert codes(findings) == [("error", "redis_cluster")]
    assert "without +cluster" in findings[0].sentence


def test_a_user_without_config_is_checked_as_far_as_it_can_see(
    redis_server: EmbeddedRedis, redis_url: str
) -> None:
    with redis.Redis(unix_socket_path=str(redis_server.socket_path)) as client:
        client.execute_command("ACL SETUSER", "blind", "on", ">w", "~*", "+@all", "-config")
        client.execute_command("ACL SETUSER", "deaf", "on", ">w", "~*", "+ping")
    assert examine(redis_url.replace("unix://", "unix://blind:w@")) == []
    findings = examine(redis_url.replace("unix://", "unix://deaf:w@"))
    assert codes(findings) == [("error", "redis_permission")]


@pytest.mark.parametrize(
    "url",
    [
        "unix:///absent/redis.sock",
        "redis://:hidden@127.0.0.1:1",
        "rediss://127.0.0.1:1",
        "redis+sentinel://:hidden@127.0.0.1:1/orders",
    ],
)
def test_an_absent_server_is_told_with_its_place_and_without_its_password(url: str) -> None:
    findings = examine(url)
    assert codes(findings) == [("error", "redis_unreachable")]
    assert "cannot be reached" in findings[0].sentence
    assert "hidden" not in findings[0].sentence


def test_a_faulty_url_and_a_wrong_password_are_told(redis_url: str) -> None:
    assert codes(examine("http://h")) == [("error", "redis_url")]
    wrong = examine(redis_url.replace("unix://", "unix://nobody:hidden@"))
    assert codes(wrong) == [("error", "redis_login")]
    assert "hidden" not in wrong[0].sentence


def test_a_database_that_the_server_does_not_have_is_a_fault_of_the_url(redis_url: str) -> None:
    """And not one that passes: nobody has to start anything."""
    findings = examine(f"{redis_url}?db=9999")
    assert codes(findings) == [("error", "redis_url")]
    assert "out of range" in findings[0].sentence


def test_a_server_that_loads_is_told() -> None:
    loading = b"-LOADING Redis is loading the dataset in memory\r\n"
    answers = {"INFO": loading, "CLIENT": b"+OK\r\n", "HELLO": b"-ERR unknown\r\n"}
    listener = listen_tcp()
    with Canned(listener, answers):
        findings = examine(f"redis://127.0.0.1:{listener.getsockname()[1]}")
    assert codes(findings) == [("error", "redis_loading")]


def test_the_master_is_found_by_its_sentinels(redis_server: EmbeddedRedis, redis_url: str) -> None:
    listeners = [listen_tcp(), listen_tcp()]
    ports = [listener.getsockname()[1] for listener in listeners]
    answer = f"*2\r\n$9\r\n127.0.0.1\r\n${len(str(ports[0]))}\r\n{ports[0]}\r\n".encode()
    common = {"CLIENT": b"+OK\r\n", "HELLO": b"-ERR unknown\r\n"}
    info = b"redis_version:6.0.0\r\nrole:master\r\naof_enabled:1\r\n"
    master = Canned(
        listeners[0],
        common | {"INFO": b"$%d\r\n%s\r\n" % (len(info), info), "CONFIG": b"*0\r\n"},
    )
    with master, Canned(listeners[1], common | {"SENTINEL": answer}):
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{ports[1]}/orders"
        assert codes(examine(url)) == [("error", "redis_version")]
