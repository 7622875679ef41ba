"""Taking sources in: what there is to read, and what was read, into the run's corpus."""

from karkas.agents.sources import Found, Reading, discover, near_duplicates
from karkas.policies.distillates import SourceRecord, SourceStatus
from karkas.workflows.context import Context
from karkas.workflows.corpus import Corpus, documents_of, store_reading


def candidates(context: Context, specs: list[str], known: frozenset[str]) -> list[Found]:
    """Everything that the sources hold and was not read yet, each key once, in a stable order."""
    found: dict[str, Found] = {}
    for spec in specs:
        for one in discover(spec, root=context.root, limits=context.limits):
            found.setdefault(one.key, one)
    return [one for key, one in found.items() if key not in known]


def take_in(context: Context, corpus: Corpus, readings: list[Reading], found: list[Found]) -> Corpus:
    """Stores what was read; near-duplicates of earlier documents are marked, not dropped."""
    artifacts, documents = context.store.artifacts, dict(corpus.documents)
    for reading in readings:
        digest = store_reading(artifacts, reading)
        if digest is not None and reading.document is not None:
            documents.setdefault(reading.record.id, digest)
            context.documents[reading.record.id] = reading.document
    records = {record.id: record for record in (*(one.record for one in readings), *corpus.records)}
    merged = Corpus(
        keys=(*corpus.keys, *(one.key for one in found)), records=tuple(records.values()), documents=documents
    )
    twins = near_duplicates(documents_of(context, merged))
    return merged.model_copy(
        update={
            "records": tuple(mark(record, twins.get(record.id)) for record in merged.records),
            "documents": {source: digest for source, digest in documents.items() if source not in twins},
        }
    )


def mark(record: SourceRecord, twin: str | None) -> SourceRecord:
    if twin is None:
        return record
    return record.model_copy(
        update={
            "status": SourceStatus.DUPLICATE,
            "near_duplicate_of": twin,
            "reason": record.reason or f"nearly the same text as {twin}",
        }
    )
