"""Signatures: what openssl and the DSSE specification say, and what is refused."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from runner.errors import MachineError, UsageError
from runner.signature import (
    PAYLOAD_TYPE,
    SignatureError,
    check_envelope,
    read_private_key,
    read_public_key,
    require_cryptography,
    signed_envelope,
)

pytest.importorskip("cryptography")
PAYLOAD = b'{"_type": "https://in-toto.io/Statement/v1"}'


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pair as the documentation makes it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    folder = tmp_path_factory.mktemp("keys")
    private, public = folder / "key.pem", folder / "key.pub.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


def openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()


def sealed(private: Path, payload: bytes = PAYLOAD) -> bytes:
    return json.dumps(signed_envelope(payload, read_private_key(private))).encode()


def test_openssl_accepts_the_signature_over_the_specified_encoding(
    keys: tuple[Path, Path], tmp_path: Path
) -> None:
    envelope = json.loads(sealed(keys[0]))
    kind = envelope["payloadType"]
    assert base64.b64decode(envelope["payload"]) == PAYLOAD
    # PAE of the DSSE specification, written out: SP is one space, LEN is decimal.
    encoded = f"DSSEv1 {len(kind)} {kind} {len(PAYLOAD)} ".encode() + PAYLOAD
    (tmp_path / "message").write_bytes(encoded)
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    openssl(
        "pkeyutl", "-verify", "-pubin", "-inkey", keys[1], "-rawin",
        "-in", tmp_path / "message", "-sigfile", tmp_path / "signature",
    )  # fmt: skip


def test_the_same_statement_gives_the_same_envelope(keys: tuple[Path, Path]) -> None:
    assert sealed(keys[0]) == sealed(keys[0])
    check_envelope(sealed(keys[0]), PAYLOAD, read_public_key(keys[1]))


def test_a_second_signature_does_not_hide_the_first(keys: tuple[Path, Path]) -> None:
    envelope = json.loads(sealed(keys[0]))
    envelope["signatures"].insert(0, {"keyid": "", "sig": base64.b64encode(b"x" * 64).decode()})
    check_envelope(json.dumps(envelope).encode(), PAYLOAD, read_public_key(keys[1]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"payload": base64.b64encode(PAYLOAD + b" ").decode()}, "signs another statement"),
        ({"payloadType": "text/plain"}, "payload type is 'text/plain'"),
        ({"signatures": []}, "no valid signature by the key"),
        ({"signatures": [{"sig": base64.b64encode(b"x" * 64).decode()}]}, "no valid signature"),
        ({"signatures": [{"keyid": "a"}]}, "not a DSSE envelope"),
        ({"payload": "%%%"}, "not a DSSE envelope"),
        ({"signatures": None}, "not a DSSE envelope"),
    ],
)
def test_a_changed_envelope_is_refused(
    keys: tuple[Path, Path], change: dict[str, object], reason: str
) -> None:
    envelope = {**json.loads(sealed(keys[0])), **change}
    with pytest.raises(SignatureError, match=reason):
        check_envelope(json.dumps(envelope).encode(), PAYLOAD, read_public_key(keys[1]))


def test_the_type_of_the_payload_is_signed_too(keys: tuple[Path, Path]) -> None:
    """A signature over the bare payload is none: it could be of any other kind of text."""
    bare = read_private_key(keys[0]).sign(PAYLOAD)
    envelope = {
        "payload": base64.b64encode(PAYLOAD).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": base64.b64encode(bare).decode()}],
    }
    with pytest.raises(SignatureError, match="no valid signature"):
        check_envelope(json.dumps(envelope).encode(), PAYLOAD, read_public_key(keys[1]))


def test_another_key_is_refused(keys: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", other)
    with pytest.raises(SignatureError, match="no valid signature by the key"):
        check_envelope(sealed(other), PAYLOAD, read_public_key(keys[1]))


def test_keys_of_another_kind_are_explained(keys: tuple[Path, Path], tmp_path: Path) -> None:
    rsa, text = tmp_path / "rsa.pem", tmp_path / "text.pem"
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", rsa)
    text.write_text("hello")
    with pytest.raises(UsageError, match="not an Ed25519 key"):
        read_private_key(rsa)
    with pytest.raises(UsageError, match="openssl genpkey -algorithm ed25519"):
        read_private_key(text)
    with pytest.raises(UsageError, match="cannot be read"):
        read_private_key(tmp_path / "none.pem")
    with pytest.raises(UsageError, match="this is a private key"):
        read_public_key(keys[0])
    with pytest.raises(UsageError, match="not a public key"):
        read_public_key(text)
    curve, point = tmp_path / "curve.pem", tmp_path / "point.pem"
    openssl("ecparam", "-name", "secp160k1", "-genkey", "-noout", "-out", curve)
    openssl("pkey", "-in", curve, "-pubout", "-out", point)
    with pytest.raises(UsageError, match=r"not a private key .*not supported"):
        read_private_key(curve)
    with pytest.raises(UsageError, match=r"not a public key .*not supported"):
        read_public_key(point)


def test_an_encrypted_key_is_asked_for_its_password(
    keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked.pem"
    openssl("pkey", "-in", keys[0], "-aes256", "-passout", "pass:secret", "-out", locked)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "secret")
    check_envelope(sealed(locked), PAYLOAD, read_public_key(keys[1]))
    monkeypatch.setattr("getpass.getpass", lambda prompt: "wrong")
    with pytest.raises(UsageError, match="not a private key"):
        read_private_key(locked)

    def closed(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", closed)
    with pytest.raises(UsageError, match="there is no terminal to ask for it"):
        read_private_key(locked)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.signature.find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"pip install 'proofbox\[signing\]'"):
        require_cryptography()
