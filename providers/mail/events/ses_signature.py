"""Amazon's signature of what SNS sends. The certificate is taken from Amazon's own hosts only."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

from providers.mail.events.ses import HOST, envelope_of

_HASHES: Mapping[str, type[HashAlgorithm]] = {"1": SHA1, "2": SHA256}
_certificate = re.compile(HOST + r"/SimpleNotificationService-[A-Za-z0-9]{8,64}\.pem").fullmatch


class SesSignature:
    def certificate_url(self, body: bytes) -> str | None:
        try:
            url = envelope_of(body).signing_cert_url
        except ValueError:
            return None
        return url if _certificate(url) is not None else None

    def holds(self, headers: Mapping[str, str], body: bytes, certificate: bytes) -> bool:  # noqa: ARG002 - the port's
        try:
            envelope = envelope_of(body)
            signature = base64.b64decode(envelope.signature, validate=True)
            key = x509.load_pem_x509_certificate(certificate).public_key()
        except (binascii.Error, ValueError):
            return False
        algorithm = _HASHES.get(envelope.signature_version)
        if algorithm is None or not isinstance(key, RSAPublicKey):
            return False
        try:
            key.verify(signature, envelope.signed_text(), PKCS1v15(), algorithm())
        except InvalidSignature:
            return False
        return True
