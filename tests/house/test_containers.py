"""What the containers may do, and who is asked whether they are well. No engine runs here: files
are read, and what they have run in a container is run as it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.crew import ALIVE_FILE
from tests.house.test_repository import instructions, last_stage, ours, services


def test_every_composed_service_may_do_little() -> None:
    for name, service in services().items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        user = service.get("user", last_stage()["USER"])
        assert user.partition(":")[0] not in ("root", "0"), name


def test_what_is_built_on_and_run_has_a_pinned_version() -> None:
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    images = [service["image"] for service in services().values() if "build" not in service]
    for image in (*bases, *images):
        assert re.fullmatch(r"[a-z]+:\d+\.\d+\.\d+-[a-z-]+", image), image


def test_composed_redis_asks_for_the_password_that_the_roles_have() -> None:
    redis = services()["redis"]
    password = redis["environment"]["REDISCLI_AUTH"]
    assert "requirepass" in " ".join(redis["command"])
    for service in ours().values():
        assert f":{password}@redis:" in service["environment"]["KASKAD_REDIS_URL"]


@pytest.mark.parametrize("name", ["dispatcher", "archive", "reports"])
def test_the_health_of_who_listens_on_nothing_is_asked_of_itself(tmp_path: Path, name: str) -> None:
    service = services()[name]
    file = service["environment"][ALIVE_FILE]
    kind, _, option, code = service["healthcheck"]["test"]
    assert (kind, option) == ("CMD", "-c")
    assert service["tmpfs"] == [str(Path(file).parent)]
    alive = tmp_path / "alive"
    check = [sys.executable, "-c", code.replace(file, str(alive))]
    for at, healthy in ((None, False), (time.time(), True), (time.time() - 60, False)):
        if at is not None:
            alive.touch()
            os.utime(alive, (at, at))
        assert (subprocess.run(check, capture_output=True).returncode == 0) is healthy
