"""Redis in a storm: the node that serves, a replica that takes over, and a disk that is full.

The nodes are reached at one address: a link in the file system that names the socket of the node
that serves, as a load balancer or a floating address would. Every node has its append-only file and
an fsync on every write. Single-threaded, as the stage is.

A failover that may lose nothing is one in order: no write is answered between the moment the
replica has everything and the moment it serves. What Redis answered and had not yet copied when a
master dies unprepared is lost with it; that is no fault this bench could hold against anybody.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import redis

from bench.processes import BenchFailed, Child, free_port
from bench.redis_server import find_binary
from bench.waiting import until

START_S = 60.0  # also to load a large append-only file
FOLLOW_S = 60.0  # until a replica has everything and its own append-only file
PAUSE_MS = 30_000  # writes wait so long at most for a failover
FORMER_S = 2.0  # how long a master that was followed lives on: read-only, or hung
TRIES = 5
# A write beyond the limit on a file's size is an error then, and not the end by a signal.
WRITE_ERROR = ["sh", "-c", 'trap \'\' XFSZ; exec "$0" "$@"']
# Redis' words: for a write of which a part fitted, and for one of which nothing did.
DISK_FULL = ("Short write while writing", "No space left on device", "File too large")
# A name space of users and mounts of its own needs no root, where the system allows it.
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]
SMALL_DISK = """
mount -t tmpfs -o "size=$3" tmpfs "$1" && cp -R "$2/." "$1" && echo mounted && exec cat
"""


class Node(NamedTuple):
    """One Redis: its files, and where it is reached."""

    folder: Path
    port: int

    @property
    def socket(self) -> Path:
        return self.folder.with_suffix(".sock")

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=10)


class RedisNodes:
    """`socket` is the address that stays the same whoever serves; `client` speaks to it."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = env
        self.socket = folder / "redis.sock"
        self.client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=10)
        self.binary, self.version = find_binary()
        self._count = 0
        self._child: Child | None = None
        self._small: subprocess.Popen[str] | None = None
        self._replica: tuple[Node, Child] | None = None
        self._former: tuple[Node, Child, float] | None = None
        self.small_disk = _own_mounts()

    def begin(self) -> None:
        """Starts the first node."""
        self._node = self._new_node()
        self._point_to(self._node)
        self.start()

    # --- the node that serves ---

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.process.poll() is None

    def start(self) -> None:
        """Starts the node on whatever its files hold; returns when it serves."""
        self._leave_small_disk()
        self._child = self._launch(self._node)
        self._await_serving()

    def kill(self) -> None:
        assert self._child is not None
        self._child.process.kill()
        self._child.process.wait(START_S)

    def stop(self) -> None:
        """Ends all nodes."""
        self.end_former()
        for child in (self._child, self._replica and self._replica[1]):
            if child is not None:
                child.stop()
        self._leave_small_disk()
        self.client.close()

    # --- a disk that is full ---

    def fill_disk(self, room: int) -> None:
        """From now on Redis may write `room` more bytes and then gets the error of a full disk.

        It is started again on a file system of its own that holds its files and no more. Where the
        system does not allow that, the running node gets a limit on the size of its file instead.
        """
        assert self._child is not None
        if self.small_disk:
            self.kill()
            self._child = self._launch_on_small_disk(room)
            return
        files = [*self._node.folder.rglob("*.aof")]  # Redis 7 and later have a folder of them
        size = max(files, key=lambda file: file.stat().st_mtime_ns).stat().st_size
        hard = resource.prlimit(self._child.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self._child.pid, resource.RLIMIT_FSIZE, (size + room, hard))

    def disk_was_full(self) -> bool:
        """Whether Redis has met the full disk, in its own words."""
        assert self._child is not None
        said = self._child.log.read_text(errors="replace")
        return any(words in said for words in DISK_FULL)

    def _launch_on_small_disk(self, room: int) -> Child:
        """The files are copied into the new file system, which one process holds open."""
        place, source = self._folder / "small", self._node.folder
        place.mkdir(exist_ok=True)
        for file in source.rglob("temp-*"):
            file.unlink()  # of a rewriting that was killed
        needed = sum(_on_disk(file) for file in source.rglob("*") if file.is_file())
        size = str(needed + room)
        self._small = subprocess.Popen(
            [*OWN_MOUNTS, "sh", "-c", SMALL_DISK, "sh", str(place), str(source), size],
            stdin=subprocess.PIPE,  # it ends when this process is no more
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._small.stdout is not None
        if self._small.stdout.readline().strip() != "mounted":
            raise BenchFailed("A file system of its own could not be made for Redis.")
        enter = ["nsenter", "--target", str(self._small.pid), "--user", "--mount"]
        enter += ["--preserve-credentials", "setpriv", "--pdeathsig", "TERM"]
        return self._launch(self._node, place, enter)

    def _leave_small_disk(self) -> None:
        """Brings the files back from the small file system, with whatever was written there."""
        if self._small is None:
            return
        small, self._small = self._small, None
        inside = Path(f"/proc/{small.pid}/root{self._folder}/small")
        shutil.copytree(
            inside, self._node.folder, dirs_exist_ok=True, copy_function=shutil.copyfile
        )
        small.communicate()

    # --- a replica that takes over ---

    def follow(self) -> None:
        """Starts a replica; `take_over` waits until it has everything."""
        self.end_former()
        node = self._new_node()
        child = self._launch(node, replicaof=self._node.port)
        self._replica = node, child

    def take_over(self, how: str) -> None:
        """The replica serves from now on, with every write that was answered. `how`:

        order  the master hands over (FAILOVER) and lives on as a replica for a while
        kill   writes are stopped, the replica catches up, the master is killed (-9)
        hang   the same, but the master is stopped (SIGSTOP) and killed a while later
        """
        assert self._replica is not None
        assert self._child is not None
        (node, child), former = self._replica, self._child
        with node.client() as replica, self._node.client() as master:
            until("the replica follows", lambda: _follows(master, replica, node), FOLLOW_S)
            if how == "order":
                _hand_over(master, replica, node)
            else:
                master.client_pause(PAUSE_MS, all=False)
                until("the replica caught up", lambda: _caught_up(master, replica), FOLLOW_S)
                former.process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGSTOP)
                replica.replicaof("NO", "ONE")
        self._former = self._node, former, time.monotonic() + FORMER_S
        self._node, self._child, self._replica = node, child, None
        self._point_to(node)
        self.client.connection_pool.disconnect()

    def tend(self) -> None:
        """Ends a former master whose time is over."""
        if self._former is not None and time.monotonic() > self._former[2]:
            self.end_former()

    def end_former(self) -> None:
        """A former master must never serve again: it is killed, and its files go."""
        if self._former is None:
            return
        (node, child, _), self._former = self._former, None
        child.process.kill()  # also when it is stopped
        child.process.wait(START_S)
        shutil.rmtree(node.folder, ignore_errors=True)

    # --- processes ---

    def _new_node(self) -> Node:
        self._count += 1
        node = Node(self._folder / f"node-{self._count}", free_port())
        node.folder.mkdir()
        return node

    def _launch(
        self,
        node: Node,
        place: Path | None = None,
        prefix: list[str] | None = None,
        replicaof: int | None = None,
    ) -> Child:
        config = self._folder / f"{node.folder.name}.conf"
        config.write_text(
            f"bind 127.0.0.1\nport {node.port}\nunixsocket {node.socket}\nunixsocketperm 700\n"
            f"dir {place or node.folder}\ndaemonize no\nappendonly yes\nappendfsync always\n"
            'save ""\nmaxmemory-policy noeviction\naof-load-truncated yes\n'
            "repl-diskless-sync yes\nrepl-diskless-sync-delay 0\nrepl-backlog-size 64mb\n"
            # From version 7 on DEBUG SLEEP must be allowed.
            + ("enable-debug-command local\n" if int(self.version.split(".")[0]) > 6 else "")
            + (f"replicaof 127.0.0.1 {replicaof}\n" if replicaof is not None else "")
        )
        log = self._folder / f"redis-{time.monotonic_ns()}.log"
        if prefix is None:
            prefix = [] if self.small_disk else WRITE_ERROR
        command = [*prefix, str(self.binary), str(config)]
        return Child("Redis", command, log, self._env)

    def _await_serving(self) -> None:
        child = self._child
        assert child is not None

        def serves() -> bool:
            child.check()
            try:
                return bool(self.client.ping())
            except redis.RedisError:
                return False

        until("Redis serves", serves, START_S)

    def _point_to(self, node: Node) -> None:
        link = self._folder / "redis.sock.new"
        link.symlink_to(node.socket)
        link.replace(self.socket)


def _has_everything(replica: redis.Redis) -> bool:
    """It is in step with its master, and what it has is in its own append-only file."""
    try:
        info = replica.info()
    except redis.RedisError:
        return False  # it has not begun, or is loading
    return (
        info["role"] == "slave"
        and info["master_link_status"] == "up"
        and not info["aof_rewrite_in_progress"]
        and not info["aof_rewrite_scheduled"]
        and info.get("aof_base_size", 0) > 0
        and info["aof_last_bgrewrite_status"] == "ok"
    )


def _follows(master: redis.Redis, replica: redis.Redis, node: Node) -> bool:
    """The replica has everything, and its master knows: it is online there only with its first
    acknowledgement, and `FAILOVER` refuses one that is not."""
    if not _has_everything(replica):
        return False
    known = master.info("replication")
    followers = [known[f"slave{n}"] for n in range(known["connected_slaves"])]
    return any(each["port"] == node.port and each["state"] == "online" for each in followers)


def _caught_up(master: redis.Redis, replica: redis.Redis) -> bool:
    return bool(
        master.info("replication")["master_repl_offset"]
        == replica.info("replication")["slave_repl_offset"]
    )


def _hand_over(master: redis.Redis, replica: redis.Redis, node: Node) -> None:
    """FAILOVER: Redis itself stops writes, waits for the replica and changes the roles."""
    for _ in range(TRIES):
        master.execute_command("FAILOVER", "TO", "127.0.0.1", node.port, "TIMEOUT", PAUSE_MS)
        until("FAILOVER ends", lambda: not _in_failover(master), FOLLOW_S)
        if replica.info("replication")["role"] == "master":
            return
    raise BenchFailed("The replica did not take over.")


def _in_failover(master: redis.Redis) -> bool:
    return bool(master.info("replication")["master_failover_state"] != "no-failover")


def _on_disk(file: Path) -> int:
    page = os.sysconf("SC_PAGE_SIZE")
    return -(-file.stat().st_size // page) * page


def _own_mounts() -> bool:
    with contextlib.suppress(OSError):
        told = subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False)
        tools = all(shutil.which(tool) for tool in ("nsenter", "setpriv"))
        return told.returncode == 0 and tools
    return False
