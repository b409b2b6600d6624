"""The certificate of the mail service's door: one that lies in a folder, or one made there.

It signs itself, so that whoever is to trust it names its file as that of an authority. What lies
there is left as it is, also where it was brought by somebody else.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

CERTIFICATE: Final = "smtp-cert.pem"
KEY: Final = "smtp-key.pem"
_DAYS: Final = 3_650
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


class CertificateFault(ValueError):
    """There is none that can be used; the sentence says what to do."""


def of_folder(folder: str, smtps_port: int, host: str) -> ssl.SSLContext | None:
    """What encrypts with the certificate in there, which is made for this machine and `host` where
    there is none; None for no folder. Raises CertificateFault."""
    if not folder:
        if smtps_port:
            raise CertificateFault("A port for TLS needs the folder of a certificate: name one.")
        return None
    certificate, key = Path(folder, CERTIFICATE), Path(folder, KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        if not certificate.exists() and not key.exists():
            _make(certificate, key, host)
        context.load_cert_chain(certificate, key)
    except OSError as fault:  # also of what OpenSSL cannot use
        raise CertificateFault(
            f"The certificate {certificate} with {key} cannot be used ({fault.strerror}): bring "
            "both, or remove both to have them made."
        ) from None
    return context


def _make(certificate: Path, key: Path, host: str) -> None:
    """Raises OSError."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Kaskad simulator")])
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    names = [_name(each) for each in dict.fromkeys((*_LOCAL, host))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, SHA256())
    )
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    certificate.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    certificate.write_bytes(made.public_bytes(Encoding.PEM))


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
