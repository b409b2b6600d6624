"""A Redis Cluster of a test's or a bench's own: so many masters, each with so many replicas.

It makes the cluster and does to it what an operator may do: move a slot, kill a node, start it
again. The first nodes are the masters, each with a third (or so)
of the slots; the replicas follow in their order. A node that does not serve or follow in time is a
BenchFailed.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot
from redis.retry import Retry

from bench.processes import Started
from bench.redis_server import find_binary
from bench.waiting import until

NODE_TIMEOUT_MS = 1_000  # a node that is silent for so long is held for dead
MIGRATE_KEYS = 100
BUS_OFFSET = 10_000  # of the port on which nodes talk to each other
PORTS = range(20_000, 50_000)


class Node:
    """One redis-server; `client` gives text."""

    def __init__(self, folder: Path, port: int, settings: Mapping[str, object]) -> None:
        self.port = port
        self.client = redis.Redis(
            port=port, socket_timeout=5, decode_responses=True, retry=Retry(NoBackoff(), 0)
        )
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        whole = {
            "port": port,
            "bind": "127.0.0.1",
            "dir": folder,
            "daemonize": "no",
            "logfile": folder / "redis.log",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-require-full-coverage": "no",
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": 0,
            **settings,
        }
        (folder / "redis.conf").write_text("".join(f"{k} {v}\n" for k, v in whole.items()))

    def start(self) -> None:
        binary, _ = find_binary()
        # So that the kernel ends it should we be killed.
        setpriv = shutil.which("setpriv")
        death = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv is not None else []
        self._process = subprocess.Popen(
            [*death, str(binary), str(self._folder / "redis.conf")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    def revive(self) -> None:
        """Starts it again on its files; returns when it serves."""
        self.start()
        until("the node serves", self.answers)

    @property
    def id(self) -> str:
        return str(self.client.execute_command("CLUSTER", "MYID"))

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def is_master(self) -> bool:
        return bool(self.client.info("replication")["role"] == "master")

    def is_copied(self) -> bool:
        """Whether every replica that follows it has all that it wrote."""
        told: dict[str, Any] = self.client.info("replication")
        copies = [told[f"slave{n}"]["offset"] for n in range(told["connected_slaves"])]
        return bool(copies) and all(each == told["master_repl_offset"] for each in copies)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stand_still(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def destroy(self) -> None:
        self.client.close()
        if self._process is not None and self._process.poll() is None:
            self.go_on()
            self.kill()


class RedisCluster(Started):
    def __init__(
        self,
        folder: Path,
        *,
        masters: int = 3,
        replicas: int = 0,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.masters = masters
        self.nodes = [
            Node(folder / f"node{n}", port, settings or {})
            for n, port in enumerate(_free_ports(masters * (1 + replicas)))
        ]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            until("the node serves", node.answers)
        self._form()

    def stop(self) -> None:
        for node in self.nodes:
            node.destroy()

    def _form(self) -> None:
        masters, replicas = self.nodes[: self.masters], self.nodes[self.masters :]
        for n, node in enumerate(self.nodes):
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for n, node in enumerate(masters):
            slots = range(n * SLOTS // self.masters, (n + 1) * SLOTS // self.masters)
            node.client.execute_command("CLUSTER", "ADDSLOTS", *slots)
        for node in self.nodes[1:]:
            node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        count = len(self.nodes)
        until("all know each other", lambda: all(_peers(n) == count for n in self.nodes))
        for n, node in enumerate(replicas):
            node.client.execute_command("CLUSTER", "REPLICATE", masters[n % self.masters].id)
        self.await_well()

    def await_well(self) -> None:
        """Returns once every node says that all slots are served, and every replica follows."""

        def well() -> bool:
            for node in self.nodes:
                replication = node.client.info("replication")
                if "cluster_state:ok" not in node.client.execute_command("CLUSTER", "INFO"):
                    return False
                if replication["role"] == "slave" and replication["master_link_status"] != "up":
                    return False
            views = {tuple(sorted(_owners(node))) for node in self.nodes}
            return len(views) == 1

        def told_well() -> bool:
            try:
                return well()
            except redis.RedisError:
                return False  # a replica that takes its master's data over answers nothing else

        until("the cluster is well", told_well)

    def flush(self) -> None:
        for node in self.nodes:
            if node.is_master():
                node.client.flushall()
        until("the replicas are empty too", lambda: not any(n.client.dbsize() for n in self.nodes))

    def master_of(self, key: str) -> Node:
        """Who serves a key's slot, in the view of the first node that answers."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            if node.answers():
                for first, last, port in _owners(node):
                    if first <= slot <= last:
                        return next(each for each in self.nodes if each.port == port)
        raise AssertionError(f"nobody serves slot {slot}")

    def replicas_of(self, master: Node) -> list[Node]:
        return [
            node
            for node in self.nodes
            if node.client.info("replication").get("master_port") == master.port
        ]

    def other_master(self, node: Node) -> Node:
        return next(each for each in self.nodes if each is not node and each.is_master())

    # --- moving a slot, as redis-cli --cluster reshard does it ---

    @contextlib.contextmanager
    def half_moved(self, key: str, target: Node) -> Iterator[Callable[[], None]]:
        """The slot of a key is on its way for as long as the block; calling what it gives moves all
        keys that are there now. The block's end gives the slot to the target."""
        slot, source = key_slot(key.encode()), self.master_of(key)
        target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

        def move_keys() -> None:
            while keys := source.client.execute_command(
                "CLUSTER", "GETKEYSINSLOT", slot, MIGRATE_KEYS
            ):
                source.client.execute_command(
                    "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys
                )

        yield move_keys
        move_keys()
        for node in (target, source):
            node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target.id)
        # Moving it on before everybody knows would give the same epoch twice.
        until("all know of the move", lambda: self._agree_on(slot))

    def _agree_on(self, slot: int) -> bool:
        views = {
            (_epoch(node), port)
            for node in self.nodes
            if node.answers()
            for first, last, port in _owners(node)
            if first <= slot <= last
        }
        return len(views) == 1

    def move(self, key: str, target: Node) -> None:
        """Moves the slot of a key with all that is in it."""
        with self.half_moved(key, target):
            pass


def _peers(node: Node) -> int:
    """How many nodes it knows and has shaken hands with, itself included."""
    lines = str(node.client.execute_command("CLUSTER", "NODES")).splitlines()
    return sum("handshake" not in line and "noaddr" not in line for line in lines)


def _epoch(node: Node) -> str:
    lines = str(node.client.execute_command("CLUSTER", "INFO")).split()
    return next(line for line in lines if line.startswith("cluster_current_epoch:"))


def _owners(node: Node) -> list[tuple[int, int, int]]:
    """(first slot, last slot, master's port), as the node sees it."""
    found: list[Any] = node.client.execute_command("CLUSTER", "SLOTS")
    return [(int(first), int(last), int(master[1])) for first, last, master, *_ in found]


def _free_ports(count: int) -> list[int]:
    """Ports that are free together with their nodes' second ones."""
    chosen: list[int] = []
    draw = random.SystemRandom()
    while len(chosen) < count:
        port = draw.choice(PORTS)
        if port not in chosen and _is_free(port) and _is_free(port + BUS_OFFSET):
            chosen.append(port)
    return chosen


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
