"""The peers are there, in the versions that the locks name."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NPM = json.loads((ROOT / "tests/peers/package.json").read_text())["dependencies"]
PYPI = re.findall(r"^([\w-]+)>=", (ROOT / "requirements/peers.in").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", PYPI)
def test_a_package_of_pypi_is_the_locked_one(name: str) -> None:
    assert f"{name}=={version(name)} " in (ROOT / "requirements/peers.txt").read_text()


@pytest.mark.parametrize("name", NPM)
def test_a_package_of_npm_is_the_locked_one(name: str) -> None:
    script = f"process.stdout.write(require('{name}/package.json').version)"
    told = subprocess.run(["node", "-e", script], capture_output=True, text=True)
    assert told.stdout == NPM[name], told.stderr
