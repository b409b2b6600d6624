"""The steps of docs/adding-a-provider.md, as printed."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from providers.contract import Refused, Submitted, Unknown
from providers.registry import KINDS, http_kind
from tests.providers import test_provider_conformance as conformance
from tests.worlds import provider_examples
from tests.worlds.provider_examples import ROWS, config, reply, submission

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-provider.md"


def printed(file: str, known: dict[str, Any]) -> dict[str, Any]:
    """What a module has that adds the guide's code for a file to what is known there."""
    (source,) = re.findall(rf"```python\n(# {file}.*?)```", GUIDE.read_text(), re.DOTALL)
    module = {**known, "__name__": "guide"}
    exec(compile(source, str(GUIDE), "exec"), module)  # noqa: S102
    return module


def suite() -> list[str]:
    """The names of those tests of any provider that take nothing but its row."""
    found = []
    for name, test in inspect.getmembers(conformance, inspect.isfunction):
        marks = getattr(test, "pytestmark", [])
        if [mark.args[1] for mark in marks] == [ROWS]:
            found.append(name)
    assert len(found) > 10
    return found


@pytest.mark.parametrize("name", suite())
def test_the_guides_adapter_passes_the_suite_by_the_guides_row(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = printed("providers/", {})["ExampleSms"]
    monkeypatch.setitem(KINDS, made.kind, http_kind(made, made.channel))
    row = printed("tests/worlds/provider_examples.py", vars(provider_examples))["EXAMPLE"]
    getattr(conformance, name)(row=row)


def test_the_guides_adapter_works_as_printed() -> None:
    """The code block is run as it stands, with one message there and one receipt back."""
    adapter = printed("providers/", {})["ExampleSms"](config("example-sms"))
    sent = submission("m-1.1", to="+15550101")
    request = adapter.submit([sent])
    assert json.loads(request.body)["to"] == "15550101"
    outcomes = adapter.outcomes([sent], reply(200, b'{"id": 17, "status": "queued"}'))
    assert outcomes == [Submitted("m-1.1", "17")]
    (refused,) = adapter.outcomes([sent], reply(200, b'{"status": "blocked"}'))
    assert isinstance(refused, Refused)
    with pytest.raises(Unknown):
        adapter.outcomes([sent], reply(200, b"busy"))
    read = adapter.receipts(b'{"id": 17, "client_id": "m-1.1", "state": "DELIVRD"}', "")
    assert [(r.status, r.ref, r.provider_id) for r in read.receipts] == [
        ("delivered", "m-1.1", "17")
    ]
    assert adapter.receipts(b'{"id": 17, "state": "?"}', "").faults != []
    with pytest.raises(ValueError, match="JSON"):
        adapter.receipts(b"<xml/>", "")


def test_every_name_the_guide_mentions_exists() -> None:
    root = GUIDE.parents[1]
    for path in re.findall(r"`((?:providers|tests|docs|config)/[\w./-]+)`", GUIDE.read_text()):
        if "example" not in path:
            assert (root / path).exists(), path
    import providers.contract as contract
    import providers.http.adapter as adapter
    import providers.http.callback_proofs as callback_proofs
    import providers.http.settings as http_settings
    import providers.registry as registry
    import providers.settings as settings
    import providers.simulator.callbacks_only as callbacks_only
    import providers.simulator.twins as twins

    for name in re.findall(r"`([A-Z][A-Za-z]+)`", GUIDE.read_text()):
        homes = (
            *(contract, adapter, callback_proofs, http_settings, registry, settings),
            *(callbacks_only, twins),
        )
        assert any(hasattr(home, name) for home in homes) or name in {"ROWS", "Row"}, name
