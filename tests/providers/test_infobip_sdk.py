"""Infobip's official SDK reads what we write and what we take for Infobip's writing.

The SDK's models are generated from Infobip's own API description, so a key it does not know would
be silently ignored by Infobip too: what it read must contain all that was written.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

import pytest

from providers.contract import LinkButton, ReceiptStatus, Submission
from tests.worlds.provider_examples import (
    ROWS,
    Verdict,
    api_error,
    infobip_answer,
    infobip_log,
    infobip_report,
    infobip_wrap,
    service_exception,
    submission,
)

BATCH = [
    submission("m-1.1"),
    submission("m-2.1", category="otp"),
    submission("m-3.1", button=LinkButton("Shop now", "https://a.example/")),
    submission("m-4.1", image_url="https://a.example/b.png"),
    submission(
        "m-5.1",
        image_url="https://a.example/b.png",
        button=LinkButton("b" * 30, "https://a.example/"),
    ),
]
SENT: list[tuple[Submission, Verdict]] = [(BATCH[0], "accepted"), (BATCH[1], "permanent")]
FINAL: tuple[ReceiptStatus, ...] = ("delivered", "undelivered", "expired", "rejected")
REPORT = infobip_report([(f"m-{i}", status) for i, status in enumerate(FINAL)])
LOGGED: tuple[ReceiptStatus, ...] = ("sent", *FINAL)
LOG = infobip_log([(f"m-{i}", status) for i, status in enumerate(LOGGED)])
SEEN = infobip_report([("m-1", "seen")])
REQUESTS = {
    "sms": ("SmsRequest", ROWS[0].adapter().submit(BATCH).body),
    "viber": ("ViberRequest", ROWS[1].adapter().submit(BATCH).body),
}
REPORTS = {
    "sms delivery": ("SmsDeliveryResult", REPORT),
    "viber delivery": ("ViberWebhookReportsResponse", REPORT),
    "viber seen": ("ViberSeenReports", SEEN),
    "sms log": ("SmsLogsResponse", LOG),
    "viber log": ("ViberLogsResponse", LOG),
    "answer": ("SmsResponse", infobip_answer(SENT)),
    "error": ("ApiError", api_error("E400", "Bad request")),
}


def model(name: str) -> Any:
    """A class of the SDK. Loading it takes seconds, which only these tests shall spend."""
    from infobip_api_client import models

    return getattr(models, name)


def lost(written: Any, read: Any, at: str = "$") -> list[str]:
    """Where `read` does not say what `written` says; the SDK turns dates into objects."""
    if isinstance(written, Mapping) and isinstance(read, Mapping):
        return [
            path
            for key, value in written.items()
            for path in lost(value, read.get(key), f"{at}.{key}")
        ]
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        pairs = enumerate(zip(written, read, strict=True))
        return [path for i, (a, b) in pairs for path in lost(a, b, f"{at}[{i}]")]
    if at.endswith("At"):
        return [] if read is not None else [at]
    return [] if written == read else [at]


@pytest.mark.parametrize("name", REQUESTS)
def test_the_sdk_understands_every_request_in_full(name: str) -> None:
    wanted, body = REQUESTS[name]
    read = model(wanted).from_json(body.decode())
    assert read is not None
    assert lost(json.loads(body), read.to_dict()) == []


@pytest.mark.parametrize("name", REPORTS)
def test_the_sdk_understands_every_example_in_full(name: str) -> None:
    wanted, body = REPORTS[name]
    read = model(wanted).from_json(body.decode())
    assert read is not None
    assert lost(json.loads(body), read.to_dict()) == []


def test_the_sdk_understands_the_older_error() -> None:
    body = json.loads(service_exception("UNAUTHORIZED", "Invalid login details"))
    read = model("ApiRequestError").from_dict(body["requestError"])
    assert read is not None
    assert lost(body["requestError"], read.to_dict()) == []


def test_the_comparison_notices_a_key_the_sdk_does_not_know() -> None:
    item = {"messageId": "m", "mesageCount": 1}
    read = model("SmsDeliveryResult").from_json(infobip_wrap([item]).decode())
    assert read is not None
    assert lost({"results": [item]}, read.to_dict()) == ["$.results[0].mesageCount"]


@pytest.mark.parametrize(
    ("row", "api", "method"),
    [
        (ROWS[0], "SmsApi", "_get_outbound_sms_message_logs_serialize"),
        (ROWS[1], "ViberApi", "_get_outbound_viber_message_logs_serialize"),
    ],
)
def test_a_look_up_is_the_call_the_sdk_makes(row: Any, api: str, method: str) -> None:
    import infobip_api_client as sdk

    client = sdk.ApiClient(sdk.Configuration(host="https://h", api_key="k"))
    serialize = getattr(getattr(sdk, api)(client), method)
    arguments: dict[str, Any] = dict.fromkeys(inspect.signature(serialize).parameters)
    arguments |= {"message_id": ["m-1.1", "m-2.1"], "limit": 1000, "_host_index": 0}
    _, url, *_ = serialize(**arguments)
    assert sorted(url.removeprefix("https://h").split("?")[1].split("&")) == sorted(
        row.adapter().look_up(["m-1.1", "m-2.1"]).path.split("?")[1].split("&")
    )
    assert url.startswith("https://h" + row.adapter().look_up(["a"]).path.split("?")[0])
