"""The ingest stage: every file of every source, once, into events, refusals and subjects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import clinimm
from clinimm.config import IngestConfig
from clinimm.core.errors import ConfigError, MissingExtraError, Refusal
from clinimm.core.fact import microseconds
from clinimm.core.pseudonym import Pseudonymiser, load_pseudonymiser
from clinimm.core.record import digest_file
from clinimm.ingest.assemble import Assembled, Inputs, assemble, unique_names
from clinimm.ingest.link import link
from clinimm.ingest.people import Links, Stated, normal_issuer
from clinimm.ingest.pool import Batch, Worker, batches, process_count, read_all
from clinimm.ingest.scrub import PathCleaner
from clinimm.ingest.shard import FACT_SCHEMA, KnownFile
from clinimm.ingest.state import State, readers_digest
from clinimm.ingest.tables import refusal_table, subject_table, write_table
from clinimm.modalities import MODALITIES, all_modalities
from clinimm.modality import Identity, Modality
from clinimm.progress import Progress
from clinimm.sources import build_sources
from clinimm.sources.base import Opener, Source, SourceFile
from clinimm.workspace import Workspace

EVENTS, REFUSALS, SUBJECTS, STATE = "events.parquet", "refusals.parquet", "subjects.parquet", "state"


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Ingest the sources of a pipeline file. Returns counts for the record.

    Raises:
        ConfigError: there is no source, or a source's folder is absent.
    """
    config = workspace.config
    if not config.sources:
        raise ConfigError("the pipeline file names no sources; add `sources: [{kind: local, root: FOLDER}]`.")
    return ingest(
        build_sources(config),
        all_modalities(config.plugins),
        config.ingest,
        load_pseudonymiser(config.ingest.pseudonym_key_file),
        workspace.stage("ingest"),
        progress,
    )


def ingest(
    sources: Sequence[Source],
    modalities: Mapping[str, Modality],
    rules: IngestConfig,
    pseudonymiser: Pseudonymiser,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Read what is new, link everything, write the three tables into ``folder``; returns counts."""
    asked = _asked_in_order(modalities)
    labels = [_label(source, number) for number, source in enumerate(sources)]
    listed = [list(source.files()) for source in sources]
    _load_readers(asked, progress)
    state = State(folder / STATE, _readers(asked, rules), pseudonymiser).load()
    worker = Worker(sources, labels, asked, rules, folder / STATE, pseudonymiser)
    read = _read_new(state, worker, listed, progress)
    progress.say(f"  ingest: {read} of {sum(map(len, listed))} files read, the others were known")
    inputs = _gather(state, sources, labels, listed)
    links = link(_stated(inputs), pseudonymiser)
    made = assemble(inputs, links, Opener(sources, pseudonymiser))
    refusals = _clean_refusals(inputs, links, made)
    write_table(folder / EVENTS, made.events)
    write_table(folder / REFUSALS, refusal_table(refusals))
    write_table(folder / SUBJECTS, subject_table(_hashed(links, pseudonymiser)))
    return _notes(inputs, links, made, refusals, read)


def _asked_in_order(modalities: Mapping[str, Modality]) -> dict[str, Modality]:
    """Plug-ins are asked first: whoever adds one means it to take its files."""
    plugged = {name: item for name, item in modalities.items() if name not in MODALITIES}
    return plugged | {name: item for name, item in modalities.items() if name in MODALITIES}


def _load_readers(modalities: Mapping[str, Modality], progress: Progress) -> None:
    """Import every reader now: a broken installation must stop the run, not refuse each file."""
    for name, modality in modalities.items():
        try:
            modality.accepts("", b"")
        except MissingExtraError as error:
            progress.say(f"  ingest: {name} files cannot be read: {error}")


def _label(source: Source, number: int) -> str:
    """A name of a source that stays when other sources come before it."""
    root = getattr(source, "root", None)
    return str(Path(root).absolute()) if root is not None else f"#{number}"


def _readers(modalities: Mapping[str, Modality], rules: IngestConfig) -> str:
    """What decides how a file is read: the readers' code, and the rules for reading."""
    package = Path(clinimm.__file__).parent
    code = sorted(
        [*package.glob("modalities/**/*.py"), *package.glob("ingest/*.py"), *package.glob("core/*.py")]
    )
    plugins = [str(getattr(item.scan, "__module__", "")) for item in modalities.values()]
    settings = rules.model_dump_json(exclude={"workers", "pseudonym_key_file"})
    return readers_digest([*(digest_file(path) for path in code), *plugins, settings])


def _read_new(
    state: State, worker: Worker, listed: Sequence[Sequence[SourceFile]], progress: Progress
) -> int:
    """Read every file that no shard holds as it is now; returns how many were read."""
    known = state.known()
    jobs: list[Batch] = []
    for number, files in enumerate(listed):
        label = worker.labels[number]
        new = [file for file in files if state.choose(label, file, known.get((label, file.path), ())) is None]
        digests = {file.path: state.digest(known.get((label, file.path), ())) for file in new}
        jobs += batches(number, new, digests)
    results = read_all(jobs, worker, process_count(worker.rules))
    read = 0
    for result in progress.track(results, "batches of files", total=len(jobs)):
        read += len(result.batch.files) - len(result.same)
        if result.shard is not None:
            state.add(result.shard)
        for file in result.same:
            key = (worker.labels[result.batch.source], file.path)
            state.touched[key] = (file.modified_ns, str(result.batch.digests[file.path]))
    return read


def _gather(
    state: State, sources: Sequence[Source], labels: Sequence[str], listed: Sequence[Sequence[SourceFile]]
) -> Inputs:
    """The valid readings of all listed files, in order of source and path; dead shards go."""
    known = state.known()
    files: list[KnownFile] = []
    source_of: list[int] = []
    place: dict[str, dict[int, int]] = {}
    for number, (label, items) in enumerate(zip(labels, listed, strict=True)):
        for item in items:
            chosen = state.choose(label, item, known.get((label, item.path), ()))
            if chosen is None:
                continue  # it vanished or changed while it was read; the next run lists it anew
            file, name, inside = chosen
            place.setdefault(name, {})[inside] = len(files)
            files.append(file)
            source_of.append(number)
    state.keep(set(place))
    parts = [_renumbered(state.shards[name].facts, numbers) for name, numbers in place.items()]
    facts = pa.concat_tables(parts) if parts else FACT_SCHEMA.empty_table()
    order = np.argsort(facts["file"].to_numpy(), kind="stable")
    now = microseconds(datetime.now(UTC))
    sites = [source.site for source in sources]
    return Inputs(files, source_of, facts.take(pa.array(order)), sites, now)


def _renumbered(facts: pa.Table, numbers: Mapping[int, int]) -> pa.Table:
    """Facts of the shard's live files, numbered for the whole run."""
    table = np.full(max(numbers) + 1 if numbers else 1, -1, dtype=np.int32)
    table[list(numbers)] = list(numbers.values())
    stated = facts["file"].to_numpy()
    live = stated < len(table)
    renumbered = np.where(live, table[np.where(live, stated, 0)], -1).astype(np.int32)
    column = facts.schema.get_field_index("file")
    return facts.set_column(column, "file", pa.array(renumbered)).filter(pa.array(renumbered >= 0))


def _stated(inputs: Inputs) -> list[Stated]:
    """Every identity of every file; an image or note whose identity is not given has its key."""
    files: dict[tuple[int, Identity], set[int]] = {}
    keys: dict[int, set[tuple[str | None, str]]] = {}
    for number, file in enumerate(inputs.files):
        for identity in file.identities:
            files.setdefault((inputs.source_of[number], identity), set()).add(number)
            keys.setdefault(number, set()).update(
                (normal_issuer(issuer), value.strip()) for issuer, value in identity.keys
            )
    for number, _, issuer, identifier in unique_names(inputs.facts)[0]:
        if identifier is not None and (normal_issuer(issuer), identifier.strip()) not in keys.get(number, ()):
            identity = Identity(keys=((issuer, identifier),))
            files.setdefault((inputs.source_of[number], identity), set()).add(number)
    return [Stated(source, identity, frozenset(numbers)) for (source, identity), numbers in files.items()]


def _hashed(links: Links, pseudonymiser: Pseudonymiser) -> list[tuple[str, str]]:
    return [
        (person.subject_id, pseudonymiser.identifier(value))
        for person in links.people.values()
        for value in person.identifiers
    ]


def _clean_refusals(inputs: Inputs, links: Links, made: Assembled) -> list[Refusal]:
    """All refusals, without any identifier or name that is known from anywhere."""
    pseudonyms: dict[str, str] = {}
    names: set[str] = set()
    for file in inputs.files:
        for identity in file.identities:
            names.update(identity.names)
            pseudonyms.update((value, "_" * len(value)) for _, value in identity.keys)
    for person in links.people.values():
        pseudonyms.update((value, person.subject_id) for value in person.identifiers)
    cleaner = PathCleaner(pseudonyms, names)
    found = [*(refusal for file in inputs.files for refusal in file.refusals), *made.refusals]
    return [replace(item, file=cleaner.clean(item.file), item=cleaner.clean(item.item)) for item in found]


def _notes(
    inputs: Inputs, links: Links, made: Assembled, refusals: Sequence[Refusal], read: int
) -> dict[str, Any]:
    """Counts for the record."""
    dropped = Counter(made.dropped)
    for file in inputs.files:
        dropped.update(file.dropped)
    flags = Counter(flag for flag in made.events["flags"].drop_null().to_pylist() for flag in flag.split(","))
    checked = {name: dropped.pop(f"({name})", 0) for name in ("validated", "invalid in sample")}
    subjects = pc.count_distinct(made.events["subject_id"]).as_py()
    return {
        "files": len(inputs.files),
        "read": read,
        "unchanged": len(inputs.files) - read,
        "events": made.events.num_rows,
        "subjects": subjects,
        "refused": len(refusals),
        "subjects_without_events": len(links.people) - subjects,
        "values_of_two_issuers": links.shared_values,
        "texts_cleaned": made.cleaned_texts,
        "revised_or_withdrawn_later": made.events.num_rows - made.events["until"].null_count,
        "resources_validated": checked["validated"],
        "resources_invalid_in_sample": checked["invalid in sample"],
        "events_by_modality": _counted(made.events["modality"].to_pylist()),
        "files_by_modality": _counted(file.modality or "none" for file in inputs.files),
        "refusals_by_code": _counted(refusal.code for refusal in refusals),
        "dropped": dict(sorted((reason, count) for reason, count in dropped.items() if count)),
        "flags": dict(sorted(flags.items())),
    }


def _counted(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
