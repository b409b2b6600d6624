"""A Redis that loads for long is waited for, and says how far it has come."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from gateway.redis.server import loading, machine
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.redis.server.loading import progress, wait_until_loaded
from providers.notation import Memory

LOADING = {"loading": 1, "loading_loaded_bytes": 2**29, "loading_total_bytes": 2**31}


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        ({"loading": 0}, None),
        ({}, None),
        ({"loading": 1}, "Redis loads its data."),
        (LOADING, "Redis loads its data: 25% of 2.0 GiB."),
        (
            LOADING | {"loading_eta_seconds": 41},
            "Redis loads its data: 25% of 2.0 GiB, about 41 s left.",
        ),
    ],
)
def test_progress_is_told_as_far_as_it_is_known(info: dict[str, int], sentence: str | None) -> None:
    assert progress(info) == sentence


@contextmanager
def slow_loader(path: Path, answers: int) -> Iterator[None]:
    """A server on a socket that says `answers` times that it loads, and then that it has."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        for n in range(answers + 1):
            link, _ = server.accept()
            body = f"loading:{int(n < answers)}\r\nloading_total_bytes:100\r\n"
            body += f"loading_loaded_bytes:{n}\r\n"
            with link:
                while asked := link.recv(65536):
                    reply = f"${len(body)}\r\n{body}\r\n" if b"INFO" in asked else "+OK\r\n" * 2
                    link.sendall(reply.encode())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        server.close()


def test_a_load_of_minutes_is_waited_for_with_a_line_now_and_then(short_dir: Path) -> None:
    told: list[str] = []
    slept: list[float] = []
    polls = 2 * loading.TELL_EVERY + 1
    with slow_loader(short_dir / "redis.sock", polls):
        wait_until_loaded(f"unix://{short_dir}/redis.sock", told.append, slept.append)
    assert told == [
        f"Redis loads its data: {n}% of 0.0 GiB." for n in range(0, polls, loading.TELL_EVERY)
    ]
    assert slept == [loading.POLL_S] * polls


def test_who_is_away_or_has_loaded_is_not_waited_for(redis_url: str, short_dir: Path) -> None:
    told: list[str] = []
    wait_until_loaded(f"unix://{short_dir}/nothing.sock", told.append)
    wait_until_loaded("nonsense://", told.append)
    wait_until_loaded(redis_url, told.append)
    assert told == []


def test_the_embedded_server_has_a_limit_and_drops_nothing(short_dir: Path) -> None:
    with (
        EmbeddedRedis(short_dir, memory_max_bytes=64 * 2**20) as server,
        redis.Redis(unix_socket_path=str(server.socket_path), decode_responses=True) as client,
    ):
        assert client.config_get("maxmemory*")["maxmemory"] == str(64 * 2**20)
    half = machine.memory_bytes() // 2
    assert EmbeddedRedis(short_dir).memory_max_bytes == half
    assert Memory.parse("50%").bytes_of(machine.memory_bytes()) == half


def test_a_container_s_limit_counts_where_it_is_less_than_the_machine(tmp_path: Path) -> None:
    whole = machine.memory_bytes([])
    for name, text in (("max", "max"), ("none", ""), ("less", "1048576")):
        (tmp_path / name).write_text(text)
    assert machine.memory_bytes([tmp_path / "max", tmp_path / "none", tmp_path / "absent"]) == whole
    assert machine.memory_bytes([tmp_path / "less"]) == 1_048_576


@pytest.mark.parametrize("text", ["", "0%", "101%", "0GiB", "4GB", "4", 4, "-1GiB", "1.5GiB"])
def test_what_is_no_amount_of_memory_is_refused_with_how_to_write_it(text: object) -> None:
    with pytest.raises(ValueError, match=r'such as "4GiB".*such as "50%"'):
        Memory.parse(text)
    assert Memory.parse("4GiB").bytes_of(1) == 4 * 2**30
