"""What Vonage's requests are authorised by: claims signed with the application's private key. Pure.

One token serves many requests for a while.
"""

from __future__ import annotations

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

LIFE_S = 900
RENEW_S = 600


def private_key(text: bytes) -> RSAPrivateKey:
    """Reads the file. Raises ValueError with the rest of a sentence."""
    try:
        key = load_pem_private_key(text, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("is no RSA private key in PEM.")
    return key


class Access:
    """The token of one application; `noise` is random text of the caller's."""

    def __init__(self, application_id: str, key: RSAPrivateKey) -> None:
        self._application_id = application_id
        self._key = key
        self._signed_s = 0
        self._token = ""

    def authorization(self, now_s: int, noise: str) -> str:
        if not self._token or not self._signed_s <= now_s < self._signed_s + RENEW_S:
            claims = {
                "application_id": self._application_id,
                "iat": now_s,
                "exp": now_s + LIFE_S,
                "jti": noise,
            }
            self._token = jwt.encode(claims, self._key, algorithm="RS256")
            self._signed_s = now_s
        return f"Bearer {self._token}"
