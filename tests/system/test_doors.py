"""What a running system shows nobody, and where it never goes: logs, figures, documents, URLs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.worlds.stack import KEYS, PROVIDER_KEY, TOKEN, Stack, phone, stack

MESSAGES = 30
PAGES = ("/metrics", "/openapi.json", "/docs", "/readyz", "/healthz")
SECRETS = (*KEYS.values(), PROVIDER_KEY, TOKEN)


@pytest.fixture(scope="module")
def kaskad() -> Iterator[Stack]:
    with stack(knobs={"seen_share": 0.3}) as running:
        yield running


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that must never be called."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        yield sock


def test_no_number_text_or_secret_is_in_any_log_metric_or_document(kaskad: Stack) -> None:
    bodies: list[dict[str, Any]] = [
        {
            "to": phone(),
            "user": f"person-{number}-zq",
            "category": "marketing",
            "campaign": "leaks",
            "text": f"Gutschein {number} zqx",
            "metadata": {"note": f"note-{number}-zq"},
            "idempotency_key": f"key-{number}-zq",
        }
        for number in range(MESSAGES)
    ]
    kaskad.when_all_final(kaskad.accept_all(bodies))
    bad = {"to": bodies[0]["to"][:-1] + "x", "category": "otp", "text": bodies[0]["text"]}
    with kaskad.client(None) as stranger:
        refused = [
            kaskad.post(bad),
            kaskad.post([bad, bodies[0]]),
            stranger.post("/v1/messages", bodies[0]),
            stranger.post("/v1/callbacks/infobip-sms?token=wrong", {"results": []}),
            kaskad.get(f"/v1/messages/{'0' * 20}"),
        ]
        pages = {path: stranger.get(path) for path in PAGES}
    assert {answer.status for answer in pages.values()} == {200}
    seen = {f"log of {process.name}": process.log for process in kaskad.processes}
    seen |= {path: answer.body.decode() for path, answer in pages.items()}
    seen |= {f"refusal {n}": answer.body.decode() for n, answer in enumerate(refused)}
    secrets = list(SECRETS)
    for body in bodies:
        digits = str(body["to"]).lstrip("+")
        secrets += [digits, *(str(body[key]) for key in ("text", "user", "idempotency_key"))]
    secrets += [f"note-{number}-zq" for number in range(MESSAGES)]
    assert all("request" in text for name, text in seen.items() if "dispatch" in name)
    for name, text in seen.items():
        for secret in secrets:
            assert secret not in text, f"{name} shows {secret}"


def test_no_address_a_caller_gives_is_ever_called(kaskad: Stack, listener: socket.socket) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
    body = {
        "to": phone(),
        "category": "marketing",
        "campaign": url,
        "text": url,
        "viber": {"image_url": url, "button": {"caption": "Go", "url": url}},
        "metadata": {"callback": url},
    }
    kaskad.when_all_final(kaskad.accept_all([body]))
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_only_web_addresses_are_taken_at_all(kaskad: Stack) -> None:
    for url in ("file:///etc/passwd", "gopher://x/", "javascript:alert(1)", "//x/a", "http:///a"):
        body = {"to": phone(), "category": "otp", "text": "x", "viber": {"image_url": url}}
        assert kaskad.post(body).status == 422, url
