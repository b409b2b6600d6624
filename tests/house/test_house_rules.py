"""The rules of the house that neither the linter nor the import contracts can check.

Each rule is a function from a file's source to a list of complaints, so that a rule is itself
tested on a line that breaks it. An exception is written down with its size; it may shrink, never
grow, and goes when it is no longer needed.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_cover  # the house is read here, not run

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "providers", "ratelimit")

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
LONGER_FILES: dict[str, int] = {}
LONGER_FUNCTIONS: dict[str, int] = {}

# Where time and chance are arguments. The rest of the house are edges: they may read a clock.
PURE = ("gateway/core/", "gateway/finance/", "providers/", "ratelimit/")
PURE_EDGES = (
    "providers/http",
    "providers/simulator/",
    "providers/fcm/access.py",
    "providers/fcm/provider.py",
    "providers/smpp/provider.py",
    "providers/smpp/session.py",
    "providers/smtp/connection.py",
    "providers/smtp/provider.py",
    "providers/standstill.py",
    "providers/vonage/provider.py",
    "providers/webpush/provider.py",
)
CLOCKS_AND_CHANCE = re.compile(
    r"(time|random|secrets)\..+"
    r"|os\.urandom|uuid\.uuid[14]"
    r"|datetime\.(datetime|date)\.(now|utcnow|today)"
    r"|trio\.current_time|asyncio\..+"
)
MONEY = ("gateway/finance/", "gateway/core/money/money")
SPEAK_REDIS = ("gateway/store/", "gateway/redis/")
NAMELESS_FILES = ("utils.py", "util.py", "helpers.py", "misc.py", "common.py")
# A channel is named by its row, where its address is read, and by what was kept before there were
# rows; and where the simulator's own knob, or a person's address, is an option of the command line.
CHANNEL_NAMES = re.compile(
    r"(?<![A-Za-z])(viber|sms|email|push|VIBER|SMS|EMAIL|PUSH)(?![A-Za-z])"
    r"|(?<![A-Z])(Viber|Sms|Email|Push)(?![a-z])"
)
NOT_OURS = re.compile(r"\bpush_async_callback\b")
CHANNELS_NAMED_IN = (
    "gateway/core/channels.py",
    "gateway/core/addresses.py",
    "gateway/core/records/schema2.py",
)
# The other one is what a messenger's previewer calls itself.
CHANNELS_NAMED_LINES = {"gateway/cli/app.py": 5, "gateway/core/reactions/clickers.py": 1}

# Frozen under the names of then.
OLD_RECORDS = "gateway/core/records/schema2.py"

UNFINISHED = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X])\b")


def sources(*folders: str) -> list[Path]:
    """Every Python file below the folders; a folder that went away is an error, not a pass."""
    assert all((ROOT / folder).is_dir() for folder in folders)
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def complaints(paths: list[Path], rule: Callable[[str], list[str]]) -> dict[str, list[str]]:
    """What a rule finds, by file; a file without complaints is left out."""
    found = {name_of(path): rule(path.read_text()) for path in paths}
    return {name: lines for name, lines in found.items() if lines}


def says_what_it_is(source: str) -> bool:
    """Whether a module opens with a docstring. No more of it is read: there are 170,000 lines."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    first = next(token for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL))
    return first.type == tokenize.STRING and bool(ast.literal_eval(first.string).strip())


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Every function of a file with its length in lines, decorators and docstring included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            yield node.name, (node.end_lineno or first) - first + 1


def names_imported(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for: `from time import time as t` gives {"t": "time.time"}."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    names[alias.asname] = alias.name
                else:
                    names[alias.name.split(".")[0]] = alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    return names


def dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value, names)):
        return f"{owner}.{node.attr}"
    return None


def clocks_and_chance(source: str) -> list[str]:
    """Every mention of a clock or a random source, also when passed on uncalled."""
    tree = ast.parse(source)
    names = names_imported(tree)
    return [
        f"line {node.lineno}: {name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
        and (name := dotted(node, names))
        and CLOCKS_AND_CHANCE.fullmatch(name)
    ]


def floats(source: str) -> list[str]:
    """Every float literal, every use of the name `float` and every import of math."""
    return [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.Name) and node.id == "float")
        or (isinstance(node, ast.Import) and any(alias.name == "math" for alias in node.names))
    ]


def redis_calls(source: str) -> list[str]:
    """Every call of a Redis client or session: what is passed is a command built there."""
    if ".call" not in source:
        return []
    return [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "call"
        and ast.unparse(node.func.value).rpartition(".")[2].lstrip("_") in ("link", "session")
    ]


def channels_named(source: str) -> list[str]:
    """Every line that names a channel: as a word, or as a part of an identifier."""
    return [
        f"line {number}: {line.strip()}"
        for number, line in enumerate(source.splitlines(), 1)
        if CHANNEL_NAMES.search(NOT_OURS.sub("", line))
    ]


def moments_told(source: str) -> list[str]:
    """Every word of Redis that says at what moment a key ends."""
    return re.findall(r"\b(?:PXAT|EXAT|P?EXPIREAT)\b", source)


def of_ours(source: str) -> list[str]:
    """Every import of one of our packages."""
    found = []
    for node in ast.walk(ast.parse(source)):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        found += [module for module in modules if module.split(".")[0] in PACKAGES]
    return found


def test_a_file_has_at_most_400_lines() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in sources(*PACKAGES)}
    too_long = {name: n for name, n in lines.items() if n > LONGER_FILES.get(name, FILE_LINES_MAX)}
    assert too_long == {}, "split the file by duty"


def test_a_function_has_at_most_70_lines() -> None:
    lines = {
        f"{name_of(path)}::{function}": n
        for path in sources(*PACKAGES)
        for function, n in functions(path.read_text())
        if n > FUNCTION_LINES_MAX
    }
    too_long = {name: n for name, n in lines.items() if n > LONGER_FUNCTIONS.get(name, 0)}
    assert too_long == {}, "let the parent decide and leaves compute"


def test_every_exception_is_as_long_as_the_code_and_still_needed() -> None:
    files = {name: len((ROOT / name).read_text().splitlines()) for name in LONGER_FILES}
    longest: dict[str, int] = {}
    for key in LONGER_FUNCTIONS:
        file, _, wanted = key.partition("::")
        longest[key] = max(n for name, n in functions((ROOT / file).read_text()) if name == wanted)
    assert files == LONGER_FILES
    assert longest == LONGER_FUNCTIONS
    assert all(lines > FILE_LINES_MAX for lines in files.values())
    assert all(lines > FUNCTION_LINES_MAX for lines in longest.values())


def test_a_module_opens_with_a_docstring() -> None:
    written = [path for path in sources(*PACKAGES, "bench", "tests") if path.read_text().strip()]
    silent = [name_of(path) for path in written if not says_what_it_is(path.read_text())]
    assert silent == [], "say what it does, what holds and what happens on failure"


def test_nothing_is_left_unfinished() -> None:
    unfinished = complaints(sources(*PACKAGES, "bench", "tests"), UNFINISHED.findall)
    assert unfinished == {}, "finish it or take it out"


def test_a_file_is_named_after_its_duty() -> None:
    assert [name_of(path) for path in sources(*PACKAGES) if path.name in NAMELESS_FILES] == []


def test_pure_code_reads_no_clock_and_draws_no_random_number() -> None:
    pure = [
        path
        for path in sources(*PACKAGES)
        if name_of(path).startswith(PURE) and not name_of(path).startswith(PURE_EDGES)
    ]
    assert complaints(pure, clocks_and_chance) == {}, (
        "take `now_ms` or the drawn number as an argument"
    )


def test_money_knows_no_float() -> None:
    about_money = [path for path in sources("gateway") if name_of(path).startswith(MONEY)]
    assert complaints(about_money, floats) == {}, (
        "integers of 1e-6 units inside, Decimal at the edges"
    )


def test_only_the_store_builds_redis_commands() -> None:
    others = [path for path in sources(*PACKAGES) if not name_of(path).startswith(SPEAK_REDIS)]
    assert complaints(others, redis_calls) == {}, "read and write records in gateway/store"


def test_redis_is_told_how_long_and_not_until_when() -> None:
    """Its clock is its own: one that is a month ahead would drop what is kept for a month."""
    written = [path for path in (ROOT / "gateway").rglob("*") if path.suffix in (".py", ".lua")]
    assert complaints([*written, *sources("ratelimit")], moments_told) == {}


def test_no_line_outside_the_table_names_a_channel() -> None:
    written = [
        path
        for path in sorted((ROOT / "gateway").rglob("*"))
        if path.suffix in (".py", ".html", ".css", ".lua", ".ndjson")
        and name_of(path) not in CHANNELS_NAMED_IN
    ]
    found = complaints(written, channels_named)
    allowed = {name: lines for name, lines in found.items() if name in CHANNELS_NAMED_LINES}
    assert {name: len(lines) for name, lines in allowed.items()} == CHANNELS_NAMED_LINES
    assert found == allowed, "ask the table of channels"


def types_named(source: str) -> Iterator[str]:
    """The classes and the names of types that others can import; a TypeVar has no meaning."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and "TypeVar" not in ast.dump(node.value):
            yield from (each.id for each in node.targets if isinstance(each, ast.Name))


def test_a_type_has_a_name_of_its_own() -> None:
    """What only reads or writes a provider's wire format keeps that provider's words."""
    shared = [*(ROOT / "providers").glob("*.py"), *sources("providers/http", "providers/push")]
    places: dict[str, list[str]] = {}
    for path in sources("gateway", "ratelimit") + shared:
        if (name := name_of(path)) != OLD_RECORDS:
            for defined in filter(re.compile("[A-Z]+[a-z]").match, types_named(path.read_text())):
                places.setdefault(defined, []).append(name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_the_benchmarks_import_nothing_of_ours() -> None:
    assert complaints(sources("bench"), of_ours) == {}, (
        "locust patches the library: speak HTTP to us"
    )


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (clocks_and_chance, "import time\ntime.time()"),
        (clocks_and_chance, "import time as t\nclock = t.monotonic"),
        (clocks_and_chance, "from time import time_ns\ntime_ns()"),
        (clocks_and_chance, "import datetime as d\nd.datetime.now(d.UTC)"),
        (clocks_and_chance, "from datetime import date\ndate.today()"),
        (clocks_and_chance, "from random import Random\nRandom()"),
        (floats, "price = 0.012"),
        (floats, "price = float('0.012')"),
        (floats, "import math"),
        (redis_calls, "await self._deps.link.call([('GET', key)])"),
        (redis_calls, "await session.call(commands)"),
        (channels_named, "if step.channel == 'viber':"),
        (channels_named, "viber_text = None"),
        (channels_named, "    return content.sms_sender"),
        (channels_named, "# What an SMS would have cost."),
        (channels_named, "class OldEmailContent:"),
        (moments_told, 'commands.append(("SET", key, value, "PXAT", until_ms))'),
        (of_ours, "from gateway.core import ids"),
        (of_ours, "import providers.http.client as http"),
    ],
)
def test_a_rule_sees_the_line_that_breaks_it(rule: Callable[[str], list[str]], source: str) -> None:
    assert rule(source)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (
            clocks_and_chance,
            "from datetime import UTC, datetime\ndatetime.fromtimestamp(now_ms, UTC)",
        ),
        (clocks_and_chance, "def due(time):\n    return time.time"),
        (floats, "price = 12_000"),
        (redis_calls, "await script.call(link, keys, args)"),
        (channels_named, "stack.push_async_callback(close)  # it pushes, and sends smsc a message"),
        (moments_told, 'commands.append(("SET", key, value, "PX", until_ms - now_ms))'),
        (of_ours, "import gateways"),
    ],
)
def test_a_rule_lets_good_lines_pass(rule: Callable[[str], list[str]], source: str) -> None:
    assert rule(source) == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ('# A licence.\n\n"""It waits."""\n', True),
        ('""" """\n', False),
        ('import ast\n"""It waits."""\n', False),
    ],
)
def test_a_docstring_is_what_a_module_opens_with(source: str, says: bool) -> None:
    assert says_what_it_is(source) == says


def test_a_function_is_measured_from_its_first_decorator_to_its_last_line() -> None:
    assert list(functions("@a\n@b\ndef f():\n    return 1\n")) == [("f", 4)]


def imported_modules(source: str, known: Collection[str]) -> set[str]:
    """The modules of ours that a file imports; also where only a type checker reads the import."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            found.add(name if name in known else name.rpartition(".")[0])
    return found.intersection(known)


def circles(imports: Mapping[str, set[str]]) -> list[set[str]]:
    """The groups of modules that import one another, straight or over others."""
    reach = {name: set(targets) for name, targets in imports.items()}
    for middle in reach:  # Warshall's closure
        for name in reach:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    knots = {name for name in reach if name in reach[name]}
    groups = {frozenset(m for m in knots if m in reach[n] and n in reach[m]) for n in knots}
    return sorted(map(set, groups), key=sorted)


def test_no_modules_import_one_another() -> None:
    files = {
        name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", "."): path
        for path in sources(*PACKAGES, "bench")
    }
    imports = {
        name: imported_modules(path.read_text(), files) - {name} for name, path in files.items()
    }
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]
    assert circles(imports) == []
