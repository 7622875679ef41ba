"""The artifact store: content-addressed files, written whole or not at all, checked when read."""

import json
import os
import re
import tempfile
from pathlib import Path

from pydantic import JsonValue
from sqlalchemy import ColumnElement, insert
from sqlmodel import col, select

from karkas.policies.actions import Digest, canonical, digest_of_bytes
from karkas.policies.errors import NotFoundError, StorageError
from karkas.storage.database import Database
from karkas.storage.meter import count
from karkas.storage.tables import ArtifactRow

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


class SharedArtifacts(Artifacts):
    """In PostgreSQL, for all hosts; the files of a host are what it has seen so far.

    `database` has connections of its own: who asks may be in the middle of a writing transaction.
    """

    def __init__(self, folder: Path, database: Database) -> None:
        super().__init__(folder)
        self._database = database

    def put(self, data: bytes) -> Digest:
        digest = super().put(data)
        if not self._is_there(digest):
            try:
                with self._database.connection() as connection:
                    connection.execute(insert(ArtifactRow).values(digest=digest, data=data))
            except StorageError:
                if not self._is_there(digest):  # else another one was quicker
                    raise
        return digest

    def get(self, digest: Digest) -> bytes:
        try:
            return super().get(digest)
        except NotFoundError:
            with self._database.connection() as connection:
                data = connection.execute(select(ArtifactRow.data).where(_is(digest))).scalar()
            if data is None or digest_of_bytes(data) != digest:
                raise
            super().put(data)
            return data

    def find(self, prefix: str) -> Digest:
        try:
            return super().find(prefix)
        except NotFoundError:
            begins = col(ArtifactRow.digest).startswith(prefix, autoescape=True)
            with self._database.connection() as connection:
                found = connection.execute(select(ArtifactRow.digest).where(begins).limit(2)).scalars().all()
            if len(found) != 1:
                raise
            return Digest(found[0])

    def _is_there(self, digest: Digest) -> bool:
        with self._database.connection() as connection:
            return connection.execute(select(ArtifactRow.digest).where(_is(digest))).first() is not None


def _is(digest: Digest) -> ColumnElement[bool]:
    return col(ArtifactRow.digest) == digest
