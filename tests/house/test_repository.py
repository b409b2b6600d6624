"""What no engine runs here is read instead: Makefile, Dockerfile, compose.yaml, documents.

Every file, target, port, variable and `kaskad` command that one of them names must exist, so that a
rename cannot leave a broken recipe behind.
"""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# CONTRACT of the command line: a script or an image may rely on these names.
COMMANDS = {
    *("demo", "up", "serve", "dispatch", "simulate", "copy", "erase"),
    *("report", "ledger", "prices", "check", "key", "provider", "status", "archive", "reconcile"),
    "close",
}
# Where the container's configuration may differ from the documented default.
CONTAINER_KEYS = re.compile(
    r"server\.(host|public_url)|redis(\..+)?|providers\.[^.]+\.base_url"
    r"|archive\.url|reports\.schedule\..+"
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


# ---- Makefile and .ci/run ------------------------------------------------------------------------


def make(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A make of its own, also when a make runs the tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment.pop("MFLAGS", None)
    command = ["make", "--no-print-directory", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", text_of("Makefile"), re.MULTILINE))


def test_make_help_lists_every_target_with_one_sentence() -> None:
    lines = make().stdout.splitlines()
    listed = {line.split()[1] for line in lines}
    assert listed == make_targets()
    assert all(re.fullmatch(r"make \S+ +[A-Z].*[.?]", line) for line in lines)


def test_every_target_of_the_makefile_is_phony_or_a_stamp_of_the_set_up() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", text_of("Makefile"), re.MULTILINE)
    assert phony is not None
    assert make_targets() <= set(phony[1].split())


def test_every_file_that_the_makefile_names_exists() -> None:
    named = set(
        re.findall(r"\b(?:bench|config|requirements|tests)/[\w./-]*\w", text_of("Makefile"))
    )
    assert {"requirements/run.txt", "requirements/dev.txt"} <= named
    missing = {name for name in named if not (ROOT / name).exists()}
    assert missing - {"tests/browser"} == set()


@pytest.mark.parametrize("answer", ["", "/nowhere/python", "false"])
def test_set_up_refuses_what_is_not_a_python_that_is_new_enough(
    tmp_path: Path, answer: str
) -> None:
    (tmp_path / "Makefile").write_text(text_of("Makefile"))
    made = make("demo", f"PYTHON={answer}", folder=tmp_path)
    assert made.returncode != 0
    assert re.search(r"^.*Install .*or name it: make PYTHON=", made.stderr, re.MULTILINE)
    assert not (tmp_path / ".venv").exists()


def test_the_build_machine_runs_check_and_every_kind_of_test_once() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    steps = re.findall(r"^step (\S+)(.*)$", script.read_text(), re.MULTILINE)
    assert dict(steps) == {
        "check": "",
        "test-browser": "",
        "test-monitoring": "",
        "test-peers": "",
        "test-redis": " ARGS=--hypothesis-seed=1",
        "test": ' ARGS="--cov --hypothesis-seed=1"',
    }
    assert len(steps) == len(dict(steps))
    assert dict(steps).keys() <= make_targets()
    subprocess.run(["bash", "-n", script], check=True)


def test_the_hosted_build_runs_the_same_on_every_python() -> None:
    (job,) = yaml.safe_load(text_of(".github/workflows/ci.yml"))["jobs"].values()
    versions = job["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    assert project["requires-python"] == f">={versions[0]}"
    assert "${{ matrix.python }}" in job["container"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == [".ci/run"]
    assert all((ROOT / command).is_file() for command in commands)
    assert {f"{name} ?=" for name in job["env"]} <= set(
        re.findall(r"^\w+ \?=", text_of("Makefile"), re.MULTILINE)
    )


# ---- Dockerfile ----------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, rest), comments dropped and continued lines joined."""
    lines = [
        line for line in text_of("Dockerfile").splitlines() if not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(word, rest) for word, rest in pairs]


def last_stage() -> dict[str, str]:
    """The last instruction of each kind in the stage that ships."""
    found: dict[str, str] = {}
    for word, rest in instructions():
        if word == "FROM":
            found = {}
        found[word] = rest
    return found


def ignored_by_docker(path: str) -> bool:
    ignored = False
    for line in text_of(".dockerignore").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        if fnmatch(path, pattern) or path.startswith(f"{pattern}/"):
            ignored = not line.startswith("!")
    return ignored


def test_everything_the_image_copies_exists_and_reaches_the_builder() -> None:
    stages = [
        rest.split(" AS ")[1] for word, rest in instructions() if word == "FROM" and " AS " in rest
    ]
    copied: set[str] = set()
    for rest in (rest for word, rest in instructions() if word == "COPY"):
        *sources, _target = rest.split()
        if sources[0].startswith("--from="):
            assert sources[0].removeprefix("--from=") in stages
            continue
        copied |= set(sources)
    missing = {path for path in copied if not (ROOT / path).exists() or ignored_by_docker(path)}
    assert missing == set()
    wheel = tomllib.loads(text_of("pyproject.toml"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["only-include"]) <= copied
    assert ignored_by_docker(".venv")
    assert ignored_by_docker("tests")


def test_the_image_installs_only_what_is_locked() -> None:
    runs = [rest for word, rest in instructions() if word == "RUN"]
    installs = [part for rest in runs for part in rest.split("&&") if "pip install" in part]
    assert len(installs) == 3
    assert all("--require-hashes" in part or "--no-deps --no-index" in part for part in installs)


def test_the_image_runs_as_nobody_special_and_says_whether_it_is_alive() -> None:
    stage = last_stage()
    assert stage["USER"] not in ("root", "0")
    server = container_settings()["server"]
    assert stage["EXPOSE"] == str(server["port"])
    check = json.loads(stage["HEALTHCHECK"].split("CMD", 1)[1])
    assert check[:2] == ["python", "-c"]
    ast.parse(check[2])
    assert f"'http://127.0.0.1:{server['port']}/healthz'" in check[2]


def test_the_image_finds_its_configuration() -> None:
    config = re.search(r"KASKAD_CONFIG=/etc/kaskad/(\S+)", last_stage()["ENV"])
    assert config is not None
    assert last_stage()["COPY"] == "config /etc/kaskad"
    assert (ROOT / "config" / config[1]).is_file()
    assert (ROOT / "config" / container_settings()["prices"]["file"]).is_file()


# ---- compose.yaml --------------------------------------------------------------------------------


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(text_of("compose.yaml"))["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    return {name: service for name, service in services().items() if service["image"] == "kaskad"}


def container_settings() -> dict[str, Any]:
    return tomllib.loads(text_of("config/compose.toml"))


def flattened(settings: Any, name: str = "") -> dict[str, Any]:
    """Nested tables as {"server.port": 8080, "caps.0.limit": 1}."""
    if isinstance(settings, dict):
        items = [(str(key), value) for key, value in settings.items()]
    elif isinstance(settings, list):
        items = [(str(index), value) for index, value in enumerate(settings)]
    else:
        return {name.removeprefix("."): settings}
    return {k: v for key, value in items for k, v in flattened(value, f"{name}.{key}").items()}


def test_compose_runs_redis_and_every_role() -> None:
    assert {name: service["command"][0] for name, service in ours().items()} == {
        "ingress": "serve",
        "dispatcher": "dispatch",
        "archive": "archive",
        "reports": "report",
        "simulator": "simulate",
    }
    assert set(services()) == {"redis", *ours()}


def test_composed_services_wait_only_for_services_that_tell_their_health() -> None:
    for service in services().values():
        for name, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert name == "ingress" or "healthcheck" in services()[name]
    assert "healthcheck" not in services()["ingress"], "the image's own check is the one for serve"


def test_composed_redis_keeps_what_it_promised() -> None:
    redis = services()["redis"]
    command = " ".join(redis["command"])
    assert "--appendonly yes" in command
    assert "--appendfsync always" in command
    assert "--maxmemory-policy noeviction" in command
    volume, _, folder = redis["volumes"][0].partition(":")
    assert folder == "/data"
    assert volume in yaml.safe_load(text_of("compose.yaml"))["volumes"]


def test_composed_services_get_every_secret_their_configuration_names() -> None:
    wanted = {
        value for key, value in flattened(container_settings()).items() if key.endswith("_env")
    }
    assert wanted
    for service in ours().values():
        assert wanted <= set(service["environment"])
        assert urlsplit(service["environment"]["KASKAD_REDIS_URL"]).hostname in services()


def test_composed_folders_lie_on_a_volume_that_every_role_sees() -> None:
    settings, volumes = container_settings(), yaml.safe_load(text_of("compose.yaml"))["volumes"]
    folders = [each["folder"] for each in settings["reports"]["schedule"]]
    for service in ours().values():
        ((volume, _, mounted),) = (each.partition(":") for each in service["volumes"])
        assert volume in volumes
        assert all(
            each.startswith(f"{mounted}/") for each in (settings["archive"]["url"], *folders)
        )
    made = re.findall(r"install -d -o kaskad (\S+)", text_of("Dockerfile"))
    assert made == folders, "a schedule's folder has to be there"


def test_composed_addresses_are_services_that_listen_there() -> None:
    settings = container_settings()
    simulator = services()["simulator"]["command"]
    listening = {
        ("ingress", settings["server"]["port"]),
        ("simulator", int(simulator[simulator.index("--port") + 1])),
    }
    urls = [
        settings["server"]["public_url"],
        *(p["base_url"] for p in settings["providers"].values()),
    ]
    assert {(urlsplit(url).hostname, urlsplit(url).port) for url in urls} == listening
    published = {
        (name, int(p.split(":")[-1])) for name in ours() for p in services()[name].get("ports", [])
    }
    assert published == listening
    assert settings["server"]["host"] == "0.0.0.0"


def test_the_container_differs_from_the_documented_default_only_in_addresses() -> None:
    default = flattened(tomllib.loads(text_of("config/kaskad.toml")))
    container = flattened(container_settings())
    differing = {
        key for key in default.keys() | container.keys() if default.get(key) != container.get(key)
    }
    assert {key for key in differing if not CONTAINER_KEYS.fullmatch(key)} == set()


# ---- the commands that all of these name ---------------------------------------------------------


@cache
def help_of(*command: str) -> str:
    """What `kaskad … --help` prints, wide enough that no option is broken over two lines."""
    program = "import sys; from gateway.cli import main; sys.argv[0] = 'kaskad'; main()"
    shown = subprocess.run(
        [sys.executable, "-c", program, *command, "--help"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def test_the_command_line_offers_the_promised_commands() -> None:
    offered = set(re.findall(r"^\W*([a-z]+) {2,}\S", help_of(), re.MULTILINE))
    assert offered >= COMMANDS


def commands_named() -> set[tuple[str, ...]]:
    """Every `kaskad` command line of the image and of compose."""
    stage = last_stage()
    assert json.loads(stage["ENTRYPOINT"]) == ["kaskad"]
    lines = [json.loads(stage["CMD"]), *(service["command"] for service in ours().values())]
    checks = [
        service["healthcheck"]["test"] for service in ours().values() if "healthcheck" in service
    ]
    lines += [check[2:] for check in checks if check[:2] == ["CMD", "kaskad"]]
    return {tuple(line) for line in lines}


@pytest.mark.parametrize("command", sorted(commands_named()), ids=" ".join)
def test_a_command_of_image_and_compose_exists_with_its_options(command: tuple[str, ...]) -> None:
    words = itertools.takewhile(lambda word: not word.startswith("--"), command)
    offered = help_of(*words)
    for option in (word for word in command if word.startswith("--")):
        assert re.search(rf"(?<!\S){option}(?!\S)", offered)


# ---- documents -----------------------------------------------------------------------------------


def documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(document: Path) -> set[str]:
    """The fragment of each heading, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def test_every_link_between_documents_leads_somewhere() -> None:
    broken = []
    for document in documents():
        for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
            if urlsplit(target).scheme:
                continue
            name, _, fragment = target.partition("#")
            file = (document.parent / name).resolve() if name else document
            if not file.exists() or (fragment and fragment not in anchors(file)):
                broken.append(f"{document.name}: {target}")
    assert broken == []


def test_every_page_is_in_the_list_of_pages() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    listed = re.findall(r"\]\(([\w-]+\.md)\)", text_of("docs/README.md"))
    assert sorted(listed) == sorted(pages)


@pytest.mark.parametrize(
    "package",
    [
        "gateway",
        *(f"gateway/{room}" for room in ("core", "store", "finance", "ingress", "dispatch", "cli")),
        "providers",
    ],
)
def test_the_architecture_names_every_room_and_what_stands_beside_them(package: str) -> None:
    shown = "".join(re.findall(r"`[^`\n]+`", text_of("docs/architecture.md")))
    names = {path.stem for path in (ROOT / package).iterdir() if path.stem[0] not in "_."}
    if package == "providers":  # each kind of provider is a package of its own
        names -= {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert sorted(names - set(re.findall(r"\w+", shown))) == []


@pytest.mark.parametrize(
    ("room", "title"),
    [
        ("core", "The core"),
        ("store", "The store"),
        ("finance", "Finance"),
        ("cli", "The command line"),
    ],
)
def test_the_architecture_lists_the_modules_of_each_subject(room: str, title: str) -> None:
    page = text_of("docs/architecture.md").split(f"## {title}, by subject")[1].split("## ")[0]
    rows = [row.split("|")[1:-1] for row in page.splitlines() if row.startswith("|")]
    listed: dict[str, set[str]] = {"": set()}
    for folder, _, modules in rows[2:]:
        name = "" if folder.strip() in ("", "loose") else folder.strip(" `/")
        listed.setdefault(name, set()).update(re.findall(r"`(\w+)`", modules))
    for folder, names in listed.items():
        there = {path.stem for path in (ROOT / "gateway" / room / folder).glob("[a-z]*.py")}
        assert not names or names == there, folder


def test_every_command_that_a_document_shows_exists() -> None:
    unknown = []
    for document in documents():
        code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", document.read_text(), re.DOTALL))
        unknown += [
            f"make {w}" for w in re.findall(r"\bmake ([a-z-]+)", code) if w not in make_targets()
        ]
        unknown += [
            f"kaskad {w}"
            for w in re.findall(r"(?:^|`|\$ |bin/)kaskad ([a-z]+)", code, re.MULTILINE)
            if w not in COMMANDS
        ]
    assert unknown == []
