"""What docstrings, comments and documents name of the code is there, under that name.

A rename by a tool changes code and leaves sentences as they were.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_cover  # the house is read here, not run

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "providers", "ratelimit", "bench")
RAISED = re.compile(r"[Rr]aises? (?:an? |the )?((?:`?[A-Z]\w+`?(?:, | and | or )?)+)")
NOT_RAISED = {"SCHEMA"}  # what changes when a record's meaning does
ROOMS = "archive|cli|core|demo|dispatch|finance|ingress|redis|reporter|settings|store"
PACKAGE = "gateway|providers|ratelimit|bench|tests"
IN_FULL = re.compile(rf"(?<![\w./])(?:{PACKAGE})(?:[./][a-z_]\w*)+")
IN_SHORT = re.compile(r"`((?:core|store|dispatch|ingress)\.[\w./]+)")
AS_PATHS = re.compile(rf"`((?:{PACKAGE}|{ROOMS})/[\w./]+)")


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def documents() -> list[Path]:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "bench" / "README.md"]
    return [*pages, *sorted((ROOT / "docs").rglob("*.md"))]


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def docstrings(path: Path) -> Iterator[str]:
    for node in nodes_of(path):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def comments(path: Path) -> Iterator[str]:
    """From the first # of each line, which may stand in a text."""
    yield from re.findall(r"#.*", path.read_text())


def bases_of(path: Path) -> Iterator[tuple[str, set[str]]]:
    """The classes of a module, with the last names of what they are derived from."""
    for node in nodes_of(path):
        if isinstance(node, ast.ClassDef):
            names = {ast.unparse(base).partition("[")[0].split(".")[-1] for base in node.bases}
            yield node.name, names


def is_exception(name: str, bases: Mapping[str, set[str]]) -> bool:
    """By what it is derived from; a library's is one by its name."""
    known = getattr(builtins, name, None)
    if isinstance(known, type):
        return issubclass(known, BaseException)
    if name not in bases:
        return name.endswith("Error")
    return any(is_exception(base, bases) for base in bases[name])


def raised(text: str) -> set[str]:
    """What a docstring says that something raises."""
    named = {word for said in RAISED.findall(text) for word in re.findall(r"[A-Z]\w+", said)}
    return named - NOT_RAISED


@cache
def words_of(module: Path) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", module.read_text()))


def is_there(name: str) -> bool:
    """Whether a path or a dotted name of ours is a file, a folder, or stands in a module."""
    name = name.rstrip("./")
    for root in (ROOT, ROOT / "gateway", ROOT / "tests"):
        if (root / name).exists():
            return True
        parts = re.split(r"[./]", name)
        for length in range(len(parts), 0, -1):
            place = root.joinpath(*parts[:length])
            rest = parts[length:]
            module = place.with_suffix(".py")
            if place.is_dir():
                if not rest:
                    return True
                module = place / "__init__.py"
            if module.is_file() and set(rest) <= words_of(module):
                return True
    return False


def test_what_is_said_to_be_raised_is_an_exception() -> None:
    bases: dict[str, set[str]] = {}
    for path in sources():
        for name, derived_from in bases_of(path):
            bases.setdefault(name, set()).update(derived_from)
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources()
        for text in docstrings(path)
        for name in sorted(raised(text))
        if not is_exception(name, bases)
    ]
    assert not wrong, "\n".join(wrong)


def test_what_docstrings_and_comments_name_is_there() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources()
        for text in (*docstrings(path), *comments(path))
        for name in (*IN_FULL.findall(text), *IN_SHORT.findall(text))
        if not is_there(name)
    ]
    assert not wrong, "\n".join(wrong)


def test_what_documents_name_is_there() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in documents()
        for name in AS_PATHS.findall(path.read_text())
        if not is_there(name)
    ]
    assert not wrong, "\n".join(wrong)


def test_a_name_that_is_gone_is_found() -> None:
    assert raised("Raises Busy, RedisUnavailable and bugs.") == {"Busy", "RedisUnavailable"}
    assert not is_exception("Busy", {"Busy": {"Struct"}})
    assert is_exception("QueueFull", {"QueueFull": {"Refused"}, "Refused": {"Exception"}})
    assert is_there("gateway.store.keys.Keys")
    assert is_there("store/keys.py")
    assert not is_there("gateway.store.keys.Tools")
    assert not is_there("ingress/api/decoder")
