"""The artifact store: content-addressed files, written whole or not at all, checked when read."""

import json
import os
import re
import tempfile
from pathlib import Path

from pydantic import JsonValue

from karkas.policies.actions import Digest, canonical, digest_of_bytes
from karkas.policies.errors import NotFoundError, StorageError
from karkas.storage.meter import count

SHORTEST_PREFIX = 6


class Artifacts:
    """`folder/ab/abcdef...`, named by the SHA-256 of the content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, digest: Digest) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise NotFoundError(f"{digest!r} is no artifact's hash (64 hexadecimal digits)")
        return self._folder / digest[:2] / digest

    def put(self, data: bytes) -> Digest:
        """Stores `data`; does nothing where it is stored already, and mends what is broken."""
        digest = digest_of_bytes(data)
        path = self.path(digest)
        try:
            if path.is_file() and path.read_bytes() == data:
                return digest
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path, data)
            count(len(data))
        except OSError as error:
            raise StorageError(
                f"an artifact of {len(data)} bytes cannot be written to {self._folder}: {error.strerror};"
                " nothing was half written"
            ) from error
        return digest

    def put_text(self, text: str) -> Digest:
        return self.put(text.encode("utf-8", "surrogatepass"))

    def put_json(self, value: JsonValue) -> Digest:
        """Stores the RFC 8785 form, so equal values have equal hashes."""
        return self.put(canonical(value))

    def get(self, digest: Digest) -> bytes:
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no artifact {digest} in {self._folder}") from error
        except OSError as error:
            raise StorageError(f"artifact {digest} cannot be read: {error.strerror}") from error
        if digest_of_bytes(data) != digest:
            raise StorageError(
                f"artifact {digest} is broken: its content no longer has that hash; remove {path} and make it anew,"
                " or restore it from a backup"
            )
        return data

    def text(self, digest: Digest) -> str:
        return self.get(digest).decode("utf-8", "surrogatepass")

    def json(self, digest: Digest) -> JsonValue:
        value: JsonValue = json.loads(self.get(digest))
        return value

    def find(self, prefix: str) -> Digest:
        """The one artifact whose hash begins with `prefix`, of six digits at least."""
        if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST_PREFIX},64}}", prefix):
            raise NotFoundError(f"{prefix!r} is no hash; give {SHORTEST_PREFIX} to 64 hexadecimal digits")
        names = [path.name for path in (self._folder / prefix[:2]).glob(f"{prefix}*") if "." not in path.name]
        if len(names) == 1:
            return Digest(names[0])
        raise NotFoundError(
            f"there is no artifact {prefix} in {self._folder}"
            if not names
            else f"{len(names)} artifacts begin with {prefix}; give more digits"
        )

    def _write(self, path: Path, data: bytes) -> None:
        descriptor, draft = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        parent = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
