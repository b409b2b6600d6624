"""A version stands in several places, and the changelog tells of each: all say the same."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest

from gateway.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
OVERLAYS = sorted((ROOT / "config/kubernetes/overlays").glob("*/kustomization.yaml"))
RELEASES = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\S+)$", CHANGELOG, re.MULTILINE)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_what_is_installed_says_the_version_of_the_project() -> None:
    assert VERSION == PROJECT


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.parent.name)
def test_manifests_run_the_image_of_this_version(overlay: Path) -> None:
    assert re.findall(r"newTag: (\S+) }", overlay.read_text()) == [PROJECT]


def test_the_guide_installs_the_wheel_of_this_version() -> None:
    wheels = re.findall(r"kaskad-([\d.]+)-py3", (ROOT / "docs/install.md").read_text())
    assert wheels == [PROJECT]


def test_the_newest_release_of_the_changelog_is_this_version() -> None:
    assert RELEASES[0][0] == PROJECT
    assert [version for version, _ in RELEASES] == sorted(
        (version for version, _ in RELEASES), key=numbers, reverse=True
    )
    days = [date.fromisoformat(day) for _, day in RELEASES]
    assert days == sorted(days, reverse=True)


def test_the_changelog_has_the_headings_of_keep_a_changelog() -> None:
    headings = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    assert headings == ["[Unreleased]", *(f"[{version}] - {day}" for version, day in RELEASES)]
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    own = {"In short", "Before you upgrade"}
    assert set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)) <= kinds | own
