"""A service account of Google: its file, and what it signs to be given an access token. Pure."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from providers.contract import AccountFault, BadRequest, Unknown
from providers.http.adapter import ProviderRequest, Reply
from providers.http.replies import ErrorDetail, raise_unless_ok

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFE_S = 3600  # what Google takes at most


class ServiceAccount(msgspec.Struct, frozen=True):
    """What is used of the file that the Firebase console gives."""

    project_id: str
    client_email: str
    private_key: str
    private_key_id: str = ""
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address

    @property
    def token_origin(self) -> str:
        parts = urlsplit(self.token_uri)
        return f"{parts.scheme}://{parts.netloc}"


class AccessToken(msgspec.Struct, frozen=True):
    """What a request is authorised by, for so long."""

    access_token: str
    expires_in: int


class _Error(msgspec.Struct, frozen=True):
    error: str = ""
    error_description: str = ""


_FILE = msgspec.json.Decoder(ServiceAccount)
_TOKEN = msgspec.json.Decoder(AccessToken)
_ERROR = msgspec.json.Decoder(_Error)


def read(text: bytes) -> tuple[ServiceAccount, RSAPrivateKey]:
    """Reads the file. Raises ValueError with the rest of a sentence."""
    try:
        account = _FILE.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"is no service account's JSON file: {error}.") from None
    try:
        key = load_pem_private_key(account.private_key.encode(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("has a private_key that is no RSA key in PEM.")
    try:
        origin = urlsplit(account.token_uri)
        usable = origin.scheme in ("http", "https") and bool(origin.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("has a token_uri that is no http or https address.")
    return account, key


def token_request(account: ServiceAccount, key: RSAPrivateKey, now_s: int) -> ProviderRequest:
    """Asks for an access token."""
    claims = {
        "iss": account.client_email,
        "sub": account.client_email,
        "aud": account.token_uri,
        "scope": SCOPE,
        "iat": now_s,
        "exp": now_s + LIFE_S,
    }
    headers = {"kid": account.private_key_id} if account.private_key_id else None
    assertion = jwt.encode(claims, key, algorithm="RS256", headers=headers)
    body = urlencode({"grant_type": GRANT, "assertion": assertion}).encode()
    form = (("Content-Type", "application/x-www-form-urlencoded"),)
    return ProviderRequest("POST", urlsplit(account.token_uri).path or "/", form, body)


def token_in(reply: Reply) -> AccessToken:
    """Reads the answer. Raises AccountFault where the account is refused, and SendFault."""
    try:
        raise_unless_ok(reply, _explain)
    except BadRequest as refused:
        raise AccountFault(
            refused.code, f"{refused.detail} Check the service account: it is refused a token."
        ) from None
    try:
        return _TOKEN.decode(reply.body)
    except (ValueError, RecursionError) as error:
        raise Unknown("token_unreadable", f"The token cannot be read: {error}") from error


def _explain(body: bytes) -> ErrorDetail:
    try:
        error = _ERROR.decode(body)
    except (ValueError, RecursionError):
        return ErrorDetail()
    return ErrorDetail(error.error, error.error_description)
