"""The locks are complete and hashed, name no place, and agree with each other and the project."""

from __future__ import annotations

import json
import re
import tomllib
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("run", "build", "dev", "peers")


@cache
def pins(lock: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Name to (pin, hashes) of a lock file."""
    entries = (ROOT / "requirements" / f"{lock}.txt").read_text().replace("\\\n", " ").splitlines()
    parsed: dict[str, tuple[str, frozenset[str]]] = {}
    for entry in entries:
        if not entry.strip() or entry.startswith("#"):
            continue
        pin, *hashes = (part.strip() for part in entry.split("--hash="))
        parsed[canonicalize_name(Requirement(pin).name)] = (pin, frozenset(hashes))
    return parsed


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_everything_with_a_hash_and_names_no_place(lock: str) -> None:
    assert not re.search(
        r"://|index-url|find-links|^\s*/|\s/\w", (ROOT / "requirements" / f"{lock}.txt").read_text()
    )
    for pin, hashes in pins(lock).values():
        assert "==" in pin
        assert hashes, f"{pin} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes)


def test_the_lock_of_npm_pins_everything_with_a_hash_and_names_no_place() -> None:
    text = (ROOT / "tests/peers/package-lock.json").read_text()
    assert "://" not in text
    whole = json.loads(text)["packages"]
    wanted = json.loads((ROOT / "tests/peers/package.json").read_text())["dependencies"]
    assert whole.pop("")["dependencies"] == wanted
    assert all(re.fullmatch(r"sha512-[\w+/]+=*", each["integrity"]) for each in whole.values())
    assert {name: whole[f"node_modules/{name}"]["version"] for name in wanted} == wanted


def test_what_peers_and_development_share_is_the_same_version() -> None:
    shared = pins("peers").keys() & pins("dev").keys()
    assert {name: pins("peers")[name] for name in shared} == {
        name: pins("dev")[name] for name in shared
    }


@pytest.mark.parametrize("lock", ["run", "build"])
def test_development_uses_the_very_versions_that_ship(lock: str) -> None:
    development = pins("dev")
    assert {name: development.get(name) for name in pins(lock)} == pins(lock)


def test_the_locks_hold_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for lock, wanted in (
        ("run", project["project"]["dependencies"]),
        ("build", project["build-system"]["requires"]),
    ):
        pinned = pins(lock)
        for requirement in map(Requirement, wanted):
            pin = Requirement(pinned[canonicalize_name(requirement.name)][0])
            version = next(iter(pin.specifier)).version
            assert requirement.specifier.contains(version), (
                f"{requirement} is locked as {pin}: make lock"
            )


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0", "3.14.0"])
def test_one_lock_fits_every_python_from_3_11(python: str) -> None:
    """A lock is made by one Python; what another one needs besides must be asked for always."""
    environment = {
        "python_full_version": python,
        "python_version": python.removesuffix(".0"),
        "extra": "",
    }
    missing = []
    for name in pins("dev"):
        for needed in map(Requirement, distribution(name).requires or ()):
            wanted = needed.marker is None or needed.marker.evaluate(environment)
            if wanted and canonicalize_name(needed.name) not in pins("dev"):
                missing.append(f"{name} needs {needed}")
    assert missing == []
