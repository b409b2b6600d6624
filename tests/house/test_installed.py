"""What is installed is what the locks name, and the locks name nothing without a hash.

The offline half of a dependency audit: a package that is not in the lock, or in another version,
was looked at by nobody.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCKS = ("run", "dev", "build", "peers")
OUR_OWN = "kaskad"
# What `python -m venv` puts there by itself.
OF_THE_VENV = {"pip", "setuptools"}


def name_of(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def pinned(lock: str) -> dict[str, str]:
    """Package: version, of one lock."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    return {
        name_of(name): version
        for name, version in re.findall(
            r"^([A-Za-z0-9_.-]+)(?:\[[a-z,]+\])?==([^ \\;]+)", text, re.MULTILINE
        )
    }


def test_every_installed_package_is_the_one_that_is_locked() -> None:
    locked = {name: version for lock in LOCKS for name, version in pinned(lock).items()}
    installed = {name_of(d.metadata["Name"]): d.version for d in metadata.distributions()}
    others = {name for name in installed.keys() - locked.keys() if name not in OF_THE_VENV}
    assert others <= {OUR_OWN}, f"installed, and in no lock: {others - {OUR_OWN}}"
    differ = {
        name: (installed[name], locked[name])
        for name in installed.keys() & locked.keys()
        if installed[name] != locked[name]
    }
    assert not differ, f"(installed, locked): {differ}"
    assert pinned("run").keys() <= installed.keys()


def test_every_package_of_a_lock_has_a_hash_and_comes_from_nowhere_else() -> None:
    for lock in LOCKS:
        text = (ROOT / "requirements" / f"{lock}.txt").read_text()
        entries = re.split(r"\n(?=\S)", text)
        named = [entry for entry in entries if not entry.startswith(("#", "--"))]
        assert len([e for e in named if "==" in e]) == len(pinned(lock)) > 0
        for entry in named:
            if entry.strip():
                assert "--hash=sha256:" in entry, entry.partition("\n")[0]
        assert not re.search(r"https?://|git\+|--extra-index|\bfile://", text)


def test_the_locks_agree_where_they_name_the_same_package() -> None:
    dev = pinned("dev")
    for lock in ("run", "build"):
        for name, version in pinned(lock).items():
            assert dev.get(name, version) == version, name


def test_a_wheel_holds_every_file_that_the_code_reads(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    read = [path for path in (ROOT / "gateway").rglob("*.*") if path.suffix not in (".py", ".pyc")]
    assert {path.suffix for path in read} >= {".html", ".css"}
    assert {path.relative_to(ROOT).as_posix() for path in read} <= held
    below = (path.relative_to(ROOT) for path in (ROOT / "config").rglob("*") if path.is_file())
    shipped = [path for path in below if ".kaskad" not in path.parts]  # data of who runs it there
    assert {f"gateway/shipped/{path.relative_to('config')}" for path in shipped} <= held
    assert not [name for name in held if ".kaskad" in name]
