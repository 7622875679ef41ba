"""The signing key: says that a decision, a gate, an audit row or a checkpoint was written by karkas and not by hand."""

import os
import stat
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from karkas.policies.errors import StorageError

KEY = "signing.key"
"""The file in a project's `.karkas`."""


REMEMBERED = 8_192
"""Signatures that a process remembers to be right, each in some 200 bytes."""


class SigningKey:
    """Ed25519 (RFC 8032), in a PEM file that only its owner may read.

    A signature that was made or found right here is found right again by its bytes and those of what was signed, at a
    tenth of the cost: one run has 40 looked at.
    """

    def __init__(self, key: Ed25519PrivateKey, path: Path) -> None:
        self._key = key
        self._public = key.public_key()
        self._right: dict[bytes, None] = {}
        self._derived: dict[bytes, bytes] = {}
        self.path = path

    @classmethod
    def create(cls, path: Path) -> "SigningKey":
        """Makes the key; loads it where it is there already."""
        body = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        # Written whole under another name and then linked, so that a second process never loads half a key.
        draft = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            try:
                path.hardlink_to(draft)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        except OSError as error:
            raise StorageError(f"the signing key {path} cannot be made: {error.strerror}") from error
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> "SigningKey":
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            body = path.read_bytes()
        except FileNotFoundError as error:
            raise StorageError(
                f"the signing key {path} is missing; restore it from a backup: without it no earlier decision"
                " can be checked"
            ) from error
        except OSError as error:
            raise StorageError(f"the signing key {path} cannot be read: {error.strerror}") from error
        if mode & 0o077:
            raise StorageError(
                f"the signing key {path} can be read by others (mode {mode:04o}), so decisions could be forged:"
                f" `chmod 600 {path}`"
            )
        try:
            key = load_pem_private_key(body, password=None)
        except (ValueError, TypeError) as error:
            raise StorageError(f"{path} is no signing key of karkas; restore it from a backup") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise StorageError(f"{path} is no Ed25519 key; restore it from a backup")
        return cls(key, path)

    @property
    def fingerprint(self) -> str:
        """The public key, in hexadecimal."""
        return self._public.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def derived(self, purpose: bytes) -> bytes:
        """A secret of 32 bytes for another purpose (HKDF, RFC 5869)."""
        if purpose not in self._derived:
            private = self._key.private_bytes_raw()
            self._derived[purpose] = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(
                private
            )
        return self._derived[purpose]

    def sign(self, data: bytes) -> str:
        signature = self._key.sign(data)
        self._remember(signature + sha256(data).digest())
        return signature.hex()

    def verifies(self, data: bytes, signature: str | None) -> bool:
        """Whether `signature` is this key's, in the one spelling that `sign` gives it."""
        try:
            raw = bytes.fromhex(signature or "")
            if raw.hex() != signature:
                return False
            known = raw + sha256(data).digest()
            if known not in self._right:
                self._public.verify(raw, data)
                self._remember(known)
        except (InvalidSignature, ValueError):
            return False
        return True

    def _remember(self, known: bytes) -> None:
        if len(self._right) >= REMEMBERED:
            self._right = {}  # at once: threads share it
        self._right[known] = None
