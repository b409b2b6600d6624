"""Which key `kaskad simulate` asks for when none is named: the one that the providers have."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.failures import UsageFault
from gateway.cli.roles import roles
from gateway.settings.file import parse

SMPP = '{ kind = "smpp", host = "localhost", system_id = "k", password_env = "P", sender = "Shop" }'
RELAY = '{ kind = "smtp", host = "localhost", tls = "none", from = "a@shop.example" }'
SMSC_RU = (
    '{ kind = "smsc-ru", base_url = "http://localhost", api_key_env = "K", sender = "Shop", '
    'callback_token_env = "T" }'
)
TOKEN = {"T": "a-token-of-callbacks"}


def key_of(*providers: str, **secrets: str) -> str:
    tables = [f"p{number} = {provider}\n" for number, provider in enumerate(providers)]
    text = "[providers]\n" + "".join(tables)
    return roles._api_key(parse(text, Path("/k.toml"), TOKEN | secrets, secrets_required=False))


def test_it_is_the_password_of_a_session_or_the_key_of_requests() -> None:
    assert key_of(SMPP, P="one") == "one"
    assert key_of(SMSC_RU, K="two") == "two"
    assert key_of(SMPP, SMSC_RU, RELAY, P="same", K="same") == "same"


def test_where_no_provider_has_one_any_does() -> None:
    assert key_of(RELAY) == roles.KEYLESS


@pytest.mark.parametrize(
    ("secrets", "words"),
    [({}, "set K or P, or use --api-key"), ({"P": "one", "K": "two"}, "different keys")],
)
def test_what_is_missing_or_differs_is_told(secrets: dict[str, str], words: str) -> None:
    with pytest.raises(UsageFault, match=words):
        key_of(SMPP, SMSC_RU, **secrets)
