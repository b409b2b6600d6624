"""The embedded server: its life, its directory, and what survives whom. Real processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
import structlog
from structlog.testing import capture_logs

from gateway import supervisor
from gateway.redis.server import binary
from gateway.redis.server.binary import find_binary, socket_path, stop_orphan
from gateway.redis.server.embedded import EmbeddedRedis, EmbeddedRedisError
from tests.worlds.processes import gone


def client_of(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(server.socket_path), decode_responses=True)


def test_it_serves_on_a_private_socket_only_with_durable_settings(short_dir: Path) -> None:
    with EmbeddedRedis(short_dir) as server, client_of(server) as client:
        assert server.url == f"unix://{short_dir}/redis.sock"
        settings = client.config_get("*")
        wanted = {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "aof-use-rdb-preamble": "yes",
            "dir": str(short_dir),
        }
        assert {key: settings[key] for key in wanted} == wanted
        assert server.socket_path.stat().st_mode & 0o777 == 0o700
        assert client.info("server")["process_id"] == server.pid


def test_a_directory_that_others_could_read_is_closed(short_dir: Path) -> None:
    short_dir.chmod(0o755)
    with EmbeddedRedis(short_dir):
        assert short_dir.stat().st_mode & 0o777 == 0o700


def test_data_survives_a_restart_and_nothing_is_left_running(short_dir: Path) -> None:
    with EmbeddedRedis(short_dir, "everysec") as server, client_of(server) as client:
        client.set("kept", "yes")
        pid = server.pid
    assert pid is not None
    assert gone(pid)
    assert server.pid is None
    assert not server.socket_path.exists()
    with EmbeddedRedis(short_dir) as again, client_of(again) as client:
        assert client.get("kept") == "yes"


def test_what_serves_is_there_though_its_supervisor_is_slow_to_note_it(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedRedis(short_dir) as server:
        assert binary.answers(server.socket_path)
        noted = iter([None, server.pid, server.pid])
        monkeypatch.setattr(EmbeddedRedis, "pid", property(lambda _: next(noted)))
        server.ensure_running()
        assert server.pid is not None


def test_a_killed_server_comes_back_at_the_same_place_with_what_it_had_promised(
    short_dir: Path,
) -> None:
    with EmbeddedRedis(short_dir) as server:
        for turn in range(2):
            with client_of(server) as client:
                client.set(f"turn-{turn}", "promised")
            killed = server.pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            server.ensure_running()
            with client_of(server) as client:
                assert client.get(f"turn-{turn}") == "promised"
            assert server.pid != killed
        assert server.restarts == 2


def test_a_second_instance_on_the_directory_is_refused_with_the_owner_s_pid(
    short_dir: Path,
) -> None:
    with EmbeddedRedis(short_dir) as server:
        for _ in range(2):
            with pytest.raises(EmbeddedRedisError, match=f"in use by process {os.getpid()}: stop"):
                EmbeddedRedis(short_dir).start()
        with client_of(server) as client:
            assert client.ping()
    EmbeddedRedis(short_dir).start()


def test_why_a_server_does_not_serve_is_told(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that is full: it ends, is started again, and ends."""
    with EmbeddedRedis(short_dir) as server, capture_logs() as logs:
        monkeypatch.setattr(supervisor, "_log", structlog.get_logger("supervisor"))
        (short_dir / "redis.conf").write_text("no-such-word yes\n")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        while binary.answers(server.socket_path) or not logs:
            pass
        assert logs[0]["event"] == "process_ended"
        assert "eady to accept connections" in logs[0]["said"]
        (short_dir / "redis.log").write_text("Can't recover from AOF write error.\n")
        held = f"in use by process {os.getpid()}, whose Redis does not serve now: Can't recover"
        with pytest.raises(EmbeddedRedisError, match=rf"{held} from AOF write error\. It starts"):
            EmbeddedRedis(short_dir).start()
        monkeypatch.setattr(binary, "ROOM_BYTES_MIN", 1 << 62)
        with pytest.raises(EmbeddedRedisError, match=r"AOF write error\. Its disk is full: make"):
            EmbeddedRedis(short_dir).start()


def test_a_directory_that_cannot_be_made_is_a_sentence(short_dir: Path) -> None:
    (short_dir / "file").write_text("")
    sentence = f"The embedded Redis cannot start: Not a directory ({short_dir / 'file' / 'redis'})."
    with pytest.raises(EmbeddedRedisError, match=re.escape(sentence)):
        EmbeddedRedis(short_dir / "file" / "redis").start()


OWNER = """
import sys
from gateway.redis.server import binary
from gateway.redis.server.embedded import EmbeddedRedis
if sys.argv[2] == "left":
    binary.shutil.which = lambda name: None
server = EmbeddedRedis(sys.argv[1])
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


def killed_owner(directory: Path, kind: str) -> int:
    """Starts a server in another process, writes a key, kills that process; the server's pid."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        with redis.Redis(unix_socket_path=str(directory / "redis.sock")) as client:
            client.set("kept", "yes")
        owner.kill()
    return pid


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, of util-linux")
def test_a_killed_owner_s_server_stops_by_itself(short_dir: Path) -> None:
    assert gone(killed_owner(short_dir, "told by the kernel"), within_s=10)


@pytest.mark.parametrize("kind", ["told by the kernel", "left"])
def test_a_killed_owner_s_server_does_not_stand_in_the_way(short_dir: Path, kind: str) -> None:
    orphan = killed_owner(short_dir, kind)
    with EmbeddedRedis(short_dir) as server, client_of(server) as client:
        assert client.info("server")["process_id"] == server.pid != orphan
        assert client.get("kept") == "yes"
        assert gone(orphan)


def test_an_orphan_that_does_not_answer_is_stopped_too(short_dir: Path) -> None:
    orphan = killed_owner(short_dir, "left")
    (short_dir / "redis.sock").unlink()
    stop_orphan(short_dir, short_dir / "redis.sock")
    assert gone(orphan)


# At SIGTERM its first thread ends, so that /proc shows a zombie, and another goes on.
HALF_DYING = """
import ctypes, signal, threading, time
libc = ctypes.CDLL(None)
libc.prctl(15, b"redis-server")  # PR_SET_NAME
signal.signal(signal.SIGTERM, lambda *_: libc.pthread_exit(None))
threading.Thread(target=time.sleep, args=(600,)).start()
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_an_orphan_is_stopped_to_its_last_thread(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binary, "STOP_WAIT_S", 0.1)
    with subprocess.Popen(
        [sys.executable, "-c", HALF_DYING], cwd=short_dir, stdout=subprocess.PIPE
    ) as orphan:
        assert orphan.stdout is not None
        assert orphan.stdout.readline() == b"ready\n"
        (short_dir / "redis.pid").write_text(f"{orphan.pid}\n")
        try:
            stop_orphan(short_dir, short_dir / "redis.sock")
            assert gone(orphan.pid)
        finally:
            orphan.kill()


def test_a_pid_file_that_names_another_program_harms_nobody(short_dir: Path) -> None:
    (short_dir / "redis.pid").write_text(f"{os.getpid()}\n")
    with EmbeddedRedis(short_dir) as server:
        assert server.pid is not None


def test_a_path_too_long_for_a_socket_gets_a_private_short_one(short_dir: Path) -> None:
    long = short_dir / ("x" * 60) / ("y" * 60)
    with EmbeddedRedis(long) as server, client_of(server) as client:
        assert client.ping()
        assert len(str(server.socket_path)) <= binary.SOCKET_PATH_BYTES_MAX
        assert server.socket_path == socket_path(long)
        assert (long / "socket.txt").read_text().strip() == str(server.socket_path)
        assert server.socket_path.parent.stat().st_mode & 0o777 == 0o700
    assert not server.socket_path.parent.exists()


def test_a_short_socket_directory_that_others_could_use_is_refused(short_dir: Path) -> None:
    long = short_dir / ("x" * 60) / ("y" * 60)
    taken = socket_path(long).parent
    taken.mkdir(mode=0o755)
    try:
        with pytest.raises(EmbeddedRedisError, match="not private"):
            EmbeddedRedis(long).start()
    finally:
        if taken.exists():
            taken.rmdir()


def test_a_server_that_cannot_start_says_why_and_frees_the_directory(short_dir: Path) -> None:
    (short_dir / "appendonly.aof").write_text("no command of Redis\n")
    with pytest.raises(EmbeddedRedisError, match=r"does not serve: .*Bad file format"):
        EmbeddedRedis(short_dir).start()
    for file in short_dir.rglob("appendonly.aof*"):  # Redis 7 and later move it into a folder
        file.unlink()
    with EmbeddedRedis(short_dir) as server:
        assert server.pid is not None


def fake_binary(directory: Path, version: str) -> Path:
    binary = directory / "redis-server"
    binary.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0 malloc=libc bits=64'\n")
    binary.chmod(0o755)
    return binary


@pytest.mark.parametrize(("version", "chosen"), [("8.0.1", True), ("6.0.9", False)])
def test_a_newer_server_on_the_path_is_preferred(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch, version: str, chosen: bool
) -> None:
    binary = fake_binary(short_dir, version)
    monkeypatch.setenv("PATH", str(short_dir), prepend=":")
    found, number = find_binary()
    assert (found == binary) is chosen
    assert number >= (6, 2, 14)


def test_files_of_a_newer_server_are_not_silently_ignored(short_dir: Path) -> None:
    (short_dir / "appendonlydir").mkdir()
    with pytest.raises(EmbeddedRedisError, match="written by Redis 7 or later"):
        binary.check_files(short_dir, (6, 2, 14))
    binary.check_files(short_dir, (7, 0, 0))
