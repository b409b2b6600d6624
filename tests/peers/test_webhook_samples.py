"""What docs/webhooks.md shows is run: its samples take what we sign, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.core.webhooks import secret_of, signed

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
SECRET, OTHER = secret_of(b"s" * 32), secret_of(b"o" * 32)
BODY = '{"type":"message.sent","timestamp":"2026-11-28T10:00:00.000Z","data":{"text":"é"}}'
RUNNERS = {
    "python": (
        [sys.executable, "-c"],
        (
            "{sample}\nimport json, sys\ncall = json.loads(sys.argv[1])\n"
            "print(json.dumps(taken(call['body'].encode(), call['headers'], call['secret'])))"
        ),
    ),
    "javascript": (
        ["node", "--input-type=module", "-e"],
        (
            "{sample}\nconst call = JSON.parse(process.argv[1]);\n"
            "console.log(JSON.stringify(taken(call.body, call.headers, call.secret)));"
        ),
    ),
}


def sample(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def taken(language: str, secret: str, at_s: int, body: str = BODY) -> object:
    """What the sample makes of a call that was signed for BODY; None: it refuses it."""
    program, frame = RUNNERS[language]
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(at_s),
        "webhook-signature": signed([OTHER, SECRET], "evt_1", at_s, BODY.encode()),
    }
    call = json.dumps({"body": body, "headers": headers, "secret": secret})
    script = frame.replace("{sample}", sample(language))
    done = subprocess.run([*program, script, call], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


@pytest.mark.parametrize("language", list(RUNNERS))
def test_a_sample_takes_what_is_signed_with_either_secret(language: str) -> None:
    now_s = int(time.time())
    assert taken(language, SECRET, now_s) == json.loads(BODY)
    assert taken(language, OTHER, now_s) == json.loads(BODY)


@pytest.mark.parametrize("language", list(RUNNERS))
def test_a_sample_refuses_what_is_not_ours_changed_or_old(language: str) -> None:
    now_s = int(time.time())
    assert taken(language, secret_of(b"x" * 32), now_s) is None
    assert taken(language, SECRET, now_s, BODY.replace("sent", "seen")) is None
    assert taken(language, SECRET, now_s - 3_600) is None
