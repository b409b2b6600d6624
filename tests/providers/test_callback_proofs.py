"""Who may bring receipts."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.http.callback_proofs import (
    BasicAuth,
    BodyProof,
    CallbackAuth,
    HmacAuth,
    carries_proof,
    proven_by_head,
)

BODY = b'{"results":[]}'
ALGORITHMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")


def verify(auth: CallbackAuth, headers: dict[str, str], query: dict[str, str], body: bytes) -> bool:
    """Whether the request carries a proof, its body coming in pieces."""
    proof = BodyProof(auth, headers)
    for start in range(0, len(body), 5):
        proof.update(body[start : start + 5])
    return proven_by_head(auth, headers, query) or proof.holds()


def basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def signature(secret: str, algorithm: str, body: bytes = BODY) -> bytes:
    return hmac.new(secret.encode(), body, getattr(hashlib, algorithm)).digest()


def test_nothing_configured_lets_nobody_in() -> None:
    assert not verify(CallbackAuth(), basic(":"), {"token": ""}, BODY)


def test_basic() -> None:
    auth = CallbackAuth(basic=BasicAuth("infobip", "пароль:1"))
    good = basic("infobip:пароль:1")
    assert verify(auth, good, {}, BODY)
    assert verify(
        auth, {"authorization": good["authorization"].replace("Basic", "bAsIc")}, {}, BODY
    )
    for bad in (
        {},
        basic("infobip:wrong"),
        basic("other:пароль:1"),
        basic("infobip"),
        {"authorization": "Basic"},
        {"authorization": "Basic !!!"},
        {"authorization": good["authorization"].replace("Basic", "Bearer")},
        {"authorization": good["authorization"] + "é"},
    ):
        assert not verify(auth, bad, {}, BODY), bad


def test_token() -> None:
    auth = CallbackAuth(token="t0k€n")
    assert verify(auth, {}, {"token": "t0k€n"}, BODY)
    for bad in ({}, {"token": ""}, {"token": "t0k€"}, {"token": "\udcff"}, {"Token": "t0k€n"}):
        assert not verify(auth, {}, bad, BODY), bad


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_hmac_in_hex(algorithm: str) -> None:
    auth = CallbackAuth(hmac=HmacAuth("s3cret", "X-Signature", algorithm))  # type: ignore[arg-type]
    good = signature("s3cret", algorithm).hex()
    assert verify(auth, {"x-signature": good}, {}, BODY)
    assert verify(auth, {"x-signature": good.upper()}, {}, BODY)
    for headers, body in (
        ({}, BODY),
        ({"x-signature": ""}, BODY),
        ({"x-signature": good[:-2]}, BODY),
        ({"x-signature": "zz" + good[2:]}, BODY),
        ({"x-other": good}, BODY),
        ({"x-signature": signature("other", algorithm).hex()}, BODY),
        ({"x-signature": good}, BODY + b" "),
    ):
        assert not verify(auth, headers, {}, body), headers


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_hmac_in_base64(algorithm: str) -> None:
    auth = CallbackAuth(hmac=HmacAuth("s3cret", "x-sig", algorithm, "base64"))  # type: ignore[arg-type]
    good = base64.b64encode(signature("s3cret", algorithm)).decode()
    assert verify(auth, {"x-sig": good}, {}, BODY)
    assert not verify(auth, {"x-sig": signature("s3cret", algorithm).hex()}, {}, BODY)


def test_a_known_hmac_vector() -> None:
    """RFC 4231, test case 2."""
    auth = CallbackAuth(hmac=HmacAuth("Jefe", "x"))
    mac = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert verify(auth, {"x": mac}, {}, b"what do ya want for nothing?")


def test_any_of_several_suffices() -> None:
    auth = CallbackAuth(BasicAuth("u", "p"), "tok", HmacAuth("s", "x"))
    assert verify(auth, basic("u:p"), {}, BODY)
    assert verify(auth, {}, {"token": "tok"}, BODY)
    assert verify(auth, {"x": signature("s", "sha256").hex()}, {}, BODY)
    assert verify(auth, basic("u:wrong"), {"token": "tok"}, BODY)
    assert not verify(auth, basic("u:wrong"), {"token": "wrong"}, BODY)


def test_what_was_handed_out_before_is_still_taken() -> None:
    older = CallbackAuth(BasicAuth("u", "old"), "old", HmacAuth("old", "x"))
    auth = CallbackAuth(BasicAuth("u", "new"), "new", HmacAuth("new", "x"), older=(older,))
    for word in ("new", "old"):
        assert verify(auth, basic(f"u:{word}"), {}, BODY)
        assert verify(auth, {}, {"token": word}, BODY)
        assert verify(auth, {"x": signature(word, "sha256").hex()}, {}, BODY)
    assert not verify(auth, basic("u:older"), {"token": "older"}, BODY)


@pytest.mark.parametrize(
    ("headers", "query", "carried"),
    [
        ({}, {}, False),
        ({}, {"token": ""}, False),
        ({}, {"token": "wrong"}, True),
        ({"authorization": "Bearer x"}, {}, True),
        ({"x-sig": "00"}, {}, True),
        ({"x-other": "00"}, {"other": "1"}, False),
    ],
)
def test_a_wrong_proof_is_told_from_none(
    headers: dict[str, str], query: dict[str, str], carried: bool
) -> None:
    auth = CallbackAuth(BasicAuth("u", "p"), "tok", HmacAuth("s", "X-Sig"))
    assert carries_proof(auth, headers, query) == carried
    assert not carries_proof(CallbackAuth(), headers, query)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CallbackAuth(token=""),
        lambda: BasicAuth("u", ""),
        lambda: BasicAuth("u:v", "p"),
        lambda: HmacAuth("", "x"),
        lambda: HmacAuth("s", ""),
    ],
)
def test_an_empty_secret_is_refused_at_the_start(make: object) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        make()  # type: ignore[operator]


@given(st.text(), st.text(), st.text(), st.binary())
def test_nothing_a_stranger_sends_raises_or_passes(
    authorization: str, token: str, mac: str, body: bytes
) -> None:
    secret = "a secret of ours that no stranger guesses"
    auth = CallbackAuth(BasicAuth("u", secret), secret, HmacAuth(secret, "x"))
    headers = {"authorization": f"Basic {authorization}", "x": mac}
    assert not verify(auth, headers, {"token": token}, body)
