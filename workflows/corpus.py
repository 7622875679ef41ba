"""A run's corpus and claims between nodes: stored as artifacts, named in the state by digest."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, TypeAdapter

from karkas.agents.sources import Reading
from karkas.policies.actions import Digest
from karkas.policies.distillates import Claim, SourceRecord
from karkas.server.documents import Document
from karkas.server.questions import Composed, Reviewed
from karkas.storage import Artifacts
from karkas.workflows.context import Context

DOCUMENT = TypeAdapter(Document)


class Corpus(BaseModel):
    """What was read so far. `keys` are the candidates that are done with, `documents` the artifacts by source id."""

    model_config = ConfigDict(frozen=True)

    keys: tuple[str, ...] = ()
    records: tuple[SourceRecord, ...] = ()
    documents: dict[str, Digest] = {}


class Pool(BaseModel):
    """All claims found so far with their scores, and how many drafts were dropped for want of a span."""

    model_config = ConfigDict(frozen=True)

    claims: tuple[Claim, ...] = ()
    scores: dict[str, float] = {}
    dropped: int = 0


def load_corpus(artifacts: Artifacts, digest: str | None) -> Corpus:
    return Corpus.model_validate_json(artifacts.get(Digest(digest))) if digest else Corpus()


def load_pool(artifacts: Artifacts, digest: str | None) -> Pool:
    return Pool.model_validate_json(artifacts.get(Digest(digest))) if digest else Pool()


def load_review(artifacts: Artifacts, digest: str | None) -> Reviewed:
    if not digest:
        return Reviewed(conflicts=(), weak_spots=(), open_questions=())
    return Reviewed.model_validate_json(artifacts.get(Digest(digest)))


def load_composed(artifacts: Artifacts, digest: str) -> Composed:
    return Composed.model_validate_json(artifacts.get(Digest(digest)))


def save(artifacts: Artifacts, value: BaseModel) -> Digest:
    return artifacts.put(value.model_dump_json().encode())


def store_reading(artifacts: Artifacts, reading: Reading) -> Digest | None:
    """Stores the extracted text, and the document's blocks beside it; gives the artifact of the latter."""
    if reading.document is None or reading.text is None:
        return None
    artifacts.put_text(reading.text)
    return artifacts.put(DOCUMENT.dump_json(reading.document, exclude={"text"}))


def documents_of(context: Context, corpus: Corpus, sources: Iterable[str] | None = None) -> list[Document]:
    """The documents with these source ids (all, by default) in the order in which they were read."""
    wanted = corpus.documents if sources is None else dict.fromkeys(sources)
    return [
        _document(context, source, corpus.documents[source])
        for source in wanted
        if source in corpus.documents
    ]


def _document(context: Context, source: str, digest: Digest) -> Document:
    if source not in context.documents:
        body = DOCUMENT_BODY.validate_json(context.store.artifacts.get(digest))
        text = context.store.artifacts.text(Digest(str(body["sha256"])))
        context.documents[source] = DOCUMENT.validate_python({**body, "text": text})
    return context.documents[source]


DOCUMENT_BODY = TypeAdapter(dict[str, object])
