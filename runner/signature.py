"""A signature over a release's statement: a DSSE envelope with a local Ed25519 key.

DSSE 1.0: https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import MachineError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_MAKE_KEY = "openssl genpkey -algorithm ed25519 -out key.pem"
_MAKE_PUBLIC = "openssl pkey -in key.pem -pubout -out key.pub.pem"


class SignatureError(Exception):
    """The envelope is not a signature of this statement by this key; the message says why."""


def signed_envelope(payload: bytes, key: Ed25519PrivateKey) -> dict[str, Any]:
    """The DSSE envelope of ``payload``; the same key and payload give the same envelope."""
    signature = key.sign(_pre_authentication_encoding(payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}
        ],
    }


def check_envelope(envelope: bytes, payload: bytes, key: Ed25519PublicKey) -> None:
    """Make sure that one of the envelope's signatures is by ``key`` and over ``payload``.

    Raises:
        SignatureError: it is not, or the envelope is damaged.
    """
    from cryptography.exceptions import InvalidSignature

    signed, signatures = _opened(envelope)
    if signed != payload:
        raise SignatureError("signs another statement than the one beside it")
    for signature in signatures:
        try:
            key.verify(signature, _pre_authentication_encoding(payload))
        except InvalidSignature:
            continue
        return
    raise SignatureError(f"holds no valid signature by the key {key_id(key)}")


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file (PKCS #8); an encrypted one is asked its password for.

    Raises:
        UsageError: the file cannot be read, or is not a private Ed25519 key.
        MachineError: the package cryptography is not installed.
    """
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _content(path, "--sign")
    try:
        found = load_pem_private_key(content, password=_password(content, path))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"--sign {path}: not a private key in PEM format ({error}). Make one: {_MAKE_KEY}"
        ) from None
    if not isinstance(found, Ed25519PrivateKey):
        raise UsageError(f"--sign {path}: not an Ed25519 key. Make one: {_MAKE_KEY}")
    return found


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM file (SubjectPublicKeyInfo).

    Raises:
        UsageError: the file cannot be read, or is not a public Ed25519 key.
        MachineError: the package cryptography is not installed.
    """
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _content(path, "--key")
    if b"PRIVATE KEY" in content:
        raise UsageError(
            f"--key {path}: this is a private key; never hand it on. Its public part: "
            f"{_MAKE_PUBLIC}"
        )
    try:
        found = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"--key {path}: not a public key in PEM format ({error})") from None
    if not isinstance(found, Ed25519PublicKey):
        raise UsageError(f"--key {path}: not an Ed25519 key")
    return found


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of the public key in DER (SubjectPublicKeyInfo), in hexadecimal."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def require_cryptography() -> None:
    """Refuse with the command that installs what signing needs."""
    if find_spec("cryptography") is None:
        raise MachineError(
            "cryptography is not installed. Signing and checking signatures need the extra: "
            "pip install 'proofbox[signing]'"
        )


def _pre_authentication_encoding(payload: bytes) -> bytes:
    """What is signed: PAE(payloadType, payload) of DSSE 1.0."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _opened(envelope: bytes) -> tuple[bytes, list[bytes]]:
    """Payload and signatures of an envelope."""
    try:
        value = json.loads(envelope)
        kind = value["payloadType"]
        payload = base64.b64decode(value["payload"], validate=True)
        signatures = [base64.b64decode(s["sig"], validate=True) for s in value["signatures"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SignatureError(f"is not a DSSE envelope ({type(error).__name__}: {error})") from None
    if kind != PAYLOAD_TYPE:
        raise SignatureError(f"its payload type is {kind!r}; expected {PAYLOAD_TYPE!r}")
    return payload, signatures


def _content(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be read ({error.strerror})") from None


def _password(content: bytes, path: Path) -> bytes | None:
    if b"ENCRYPTED" not in content:
        return None
    from getpass import getpass

    try:
        return getpass(f"Password of {path}: ").encode()
    except EOFError:
        raise UsageError(
            f"--sign {path}: has a password, and there is no terminal to ask for it"
        ) from None
