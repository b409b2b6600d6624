"""What docs/install.md hands out: units that systemd can read, a proxy for every public path."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.ingress.http.routes import ROUTES

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "config/systemd").glob("*.service"))
ROLES = {
    "kaskad-serve": ["serve"],
    "kaskad-dispatch": ["dispatch"],
    "kaskad-archive": ["archive", "run"],
    "kaskad-reports": ["report", "run"],
}
GUIDE = (ROOT / "docs/install.md").read_text()
PROXY = (ROOT / "config/proxy/nginx.conf").read_text()


def unit(path: Path) -> dict[str, list[tuple[str, str]]]:
    """The unit as systemd reads it: sections of directives, a directive any number of times."""
    sections: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith(("#", ";")):
            continue
        if found := re.fullmatch(r"\[(\w+)\]", line):
            name = found[1]
            continue
        key, equals, value = line.partition("=")
        assert equals, line
        assert re.fullmatch(r"[A-Z]\w+", key), line
        sections.setdefault(name, []).append((key, value))
    return sections


class UnitParser(configparser.ConfigParser):
    """Keys of a unit are as they are written."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_its_role_and_lets_it_stop_in_order(path: Path) -> None:
    strict = UnitParser(strict=True, interpolation=None)
    strict.read(path)
    assert strict.sections() == ["Unit", "Service", "Install"] == list(unit(path))
    service = dict(unit(path)["Service"])
    binary, *command = shlex.split(service["ExecStart"])
    assert (binary, command) == ("/opt/kaskad/bin/kaskad", ROLES[path.stem])
    assert CliRunner().invoke(app, [*command, "--help"]).exit_code == 0
    takes_over = command[0] in ("serve", "dispatch")
    assert service.get("ExecReload", "").endswith("-HUP $MAINPID") is takes_over
    writes = service.get("ReadWritePaths", "")
    assert (writes == "") is takes_over, "the others write what the configuration names"
    assert writes in GUIDE
    assert int(service["TimeoutStopSec"]) > 20, "longer than stop_within"
    assert service["RestartPreventExitStatus"] == "2", "a faulty configuration"
    for named in (service["EnvironmentFile"], service["Environment"].partition("=")[2]):
        assert named in GUIDE
    assert path.name in GUIDE


def test_every_role_has_a_unit() -> None:
    assert [path.stem for path in UNITS] == sorted(ROLES)


def test_the_proxy_passes_on_what_is_public_and_nothing_else() -> None:
    passed = re.findall(r"location (= )?(\S+) \{ proxy_pass", PROXY)

    def is_passed(path: str) -> bool:
        return any(path == place if exact else path.startswith(place) for exact, place in passed)

    inside = {"/healthz", "/readyz"}
    for route in ROUTES:
        if route.on_admin_port != "only":
            assert is_passed(route.path) != (route.path in inside), route.path
    assert not is_passed("/metrics")
    assert "proxy_buffering off;" in PROXY
    assert "proxy_request_buffering off;" in PROXY
    assert PROXY.count("{") == PROXY.count("}")


def test_the_guides_commands_are_shell() -> None:
    samples = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
    assert len(samples) == 5
    for sample in samples:
        checked = subprocess.run(["bash", "-n"], input=sample, text=True, capture_output=True)
        assert checked.returncode == 0, checked.stderr
        for file in re.findall(r"\b(?:config|requirements)/[\w./-]+", sample):
            assert (ROOT / file).exists(), file
