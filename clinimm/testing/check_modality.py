"""Does a modality keep the contract of ``clinimm.modality``? One call, one answer.

For the author of an outside modality::

    def test_my_modality_keeps_the_contract(tmp_path):
        check_modality(MODALITY, {"a.ecg": content}, tmp_path)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clinimm.config import ModalityConfig
from clinimm.core.errors import InputRejected
from clinimm.core.event import EVENT_COLUMNS
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.core.record import digest_bytes
from clinimm.modality import EncodeContext, Encoded, Fact, Modality, Scan
from clinimm.nn.tokens import Tokens
from clinimm.progress import QUIET
from clinimm.sources.base import Opener
from clinimm.sources.memory import MemorySource

_HEAD_BYTES = 512
_KINDS = ("pixels", "tile", "event", "characters")
#: A batch may be added up in another order than one item alone, and tokens are kept as float16.
_TOLERANCE = 1e-2


class ContractBrokenError(AssertionError):
    """A modality does not keep the contract; the message says which part and how."""


def check_modality(
    modality: Modality, files: Mapping[str, bytes], folder: Path, config: ModalityConfig | None = None
) -> Encoded:
    """Take sample files through everything that the stages do with a modality.

    Args:
        modality: the value to check.
        files: path -> content of a few valid files, best of two patients or more.
        folder: an empty folder for the token cache.
        config: the modality's settings; the defaults if left out.

    Returns:
        What ``encode`` made of the samples, for further tests of the author's own.

    Raises:
        ContractBrokenError: the first law that does not hold.
    """
    _require(
        modality.name.isidentifier() and modality.name.islower(), f"name {modality.name!r} is no identifier"
    )
    source = MemorySource(dict(files))
    scans = _check_scan(modality, source)
    context = _context(modality, source, folder, config or ModalityConfig())
    events = sample_events(modality, source, scans, context.opener)
    encoded = _check_encode(modality, events, context)
    _check_network(modality, encoded, context.config)
    _check_locate(modality, encoded, context.config)
    return encoded


def sample_events(
    modality: Modality, source: MemorySource, scans: Mapping[str, Scan], opener: Opener
) -> pd.DataFrame:
    """The facts of this modality as ``cohort.window.visible`` would show them, seen an hour later."""
    facts = [
        (path, fact) for path, scan in scans.items() for fact in scan.facts if fact.modality == modality.name
    ]
    _require(bool(facts), f"no sample file gave a fact whose modality is {modality.name!r}")
    index_time = max(fact.time for _, fact in facts) + timedelta(hours=1)
    rows = [_event(path, fact, source, opener) for path, fact in facts]
    events = pd.DataFrame(rows, columns=[*EVENT_COLUMNS])
    events["numeric_value"] = events["numeric_value"].astype("float64")
    events["time"] = pd.to_datetime(events["time"], utc=True)
    events["index_time"] = index_time
    events["time_hours"] = (index_time - events["time"]).dt.total_seconds() / 3600
    return events.sort_values(["subject_id", "time", "code"], kind="stable", ignore_index=True)


def _event(path: str, fact: Fact, source: MemorySource, opener: Opener) -> dict[str, object]:
    return {
        "subject_id": digest_bytes(repr(fact.patient).encode())[:26],
        "time": fact.time,
        "code": fact.code,
        "numeric_value": fact.numeric_value,
        "unit": fact.unit,
        "text_value": fact.text_value,
        "modality": fact.modality,
        "category": fact.category,
        "encounter_id": fact.encounter,
        "uri": opener.seal(0, path) if fact.is_file else None,
        "digest": digest_bytes(source.read(path)) if fact.is_file else None,
        "flags": ",".join(fact.flags) or None,
        "attributes": json.dumps(dict(fact.attributes), sort_keys=True) if fact.attributes else None,
    }


def _context(modality: Modality, source: MemorySource, folder: Path, config: ModalityConfig) -> EncodeContext:
    opener = Opener((source,), Pseudonymiser(b"a key for tests."))
    return EncodeContext(config, opener, folder / modality.name, 2, QUIET)


def _check_scan(modality: Modality, source: MemorySource) -> dict[str, Scan]:
    scans = {}
    for file in source.files():
        content = source.read(file.path)
        _require(
            modality.accepts(file.path, content[:_HEAD_BYTES]), f"accepts refuses the sample {file.path}"
        )
        scans[file.path] = modality.scan(source, file)
        for fact in scans[file.path].facts:
            _check_fact(fact, file.path)
        again = modality.scan(source, file)
        _require(
            list(again.facts) == list(scans[file.path].facts), f"scanning {file.path} twice gives other facts"
        )
        for damaged in (b"", content[: len(content) // 2], bytes(len(content))):
            _check_damaged(modality, file.path, damaged)
    return scans


def _check_fact(fact: Fact, path: str) -> None:
    _require(fact.time.tzinfo is not None, f"{path}: a fact's time has no zone")
    _require("//" in fact.code, f"{path}: code {fact.code!r} is not SYSTEM//code")
    try:
        json.dumps(dict(fact.attributes))
    except TypeError as error:
        raise ContractBrokenError(f"{path}: attributes are not JSON values: {error}") from error


def _check_damaged(modality: Modality, path: str, content: bytes) -> None:
    """A damaged file may be declined, refused or partly read, and nothing else."""
    source = MemorySource({path: content})
    if not modality.accepts(path, content[:_HEAD_BYTES]):
        return
    try:
        modality.scan(source, next(source.files()))
    except InputRejected:
        return
    except Exception as error:  # whatever else comes out is what is being checked
        raise ContractBrokenError(f"{path}, damaged, raises {error!r}; expected InputRejected") from error


def _check_encode(modality: Modality, events: pd.DataFrame, context: EncodeContext) -> Encoded:
    encoded = modality.encode(events, context)
    _check_shape(encoded)
    _require(len(encoded.tokens) > 0, "the samples give no token")
    again = modality.encode(events.iloc[::-1].reset_index(drop=True), context)
    _same(encoded, again, "the order of the events changes the tokens")
    for subject in events["subject_id"].unique():
        alone = modality.encode(events[events["subject_id"] == subject].reset_index(drop=True), context)
        _same(_of_subject(encoded, subject), alone, "a subject's tokens depend on other subjects")
    if events["uri"].notna().any():
        _check_absent(modality, events, context)
    return encoded


def _check_shape(encoded: Encoded) -> None:
    tokens = encoded.tokens
    missing = {"subject_id", "time_hours"} - set(tokens.columns)
    _require(not missing, f"tokens lack the columns {', '.join(sorted(missing))}")
    _require(
        len(tokens) == len(encoded.values), f"{len(tokens)} rows of tokens, {len(encoded.values)} of values"
    )
    _require(bool((tokens["time_hours"] >= 0).all()), "a token is later than the index time")
    order = tokens.sort_values(["subject_id", "time_hours"], ascending=[True, False], kind="stable").index
    _require(order.equals(tokens.index), "rows are not sorted by subject and then time")
    _require(bool(np.isfinite(encoded.values).all()), "a value is not finite")


def _check_absent(modality: Modality, events: pd.DataFrame, context: EncodeContext) -> None:
    """A file that is gone is a refusal, not the end of the stage."""
    gone = events[events["uri"].notna()].iloc[:1].copy()
    gone["uri"], gone["digest"] = context.opener.seal(0, "gone/away"), digest_bytes(b"gone")
    encoded = modality.encode(gone, context)
    _require(len(encoded.tokens) == 0 and bool(encoded.refusals), "a file that is gone is not refused")


def _check_network(modality: Modality, encoded: Encoded, config: ModalityConfig) -> None:
    statistics = modality.fit(encoded, config)
    try:
        statistics = json.loads(json.dumps(statistics))
    except TypeError as error:
        raise ContractBrokenError(f"statistics are not JSON values: {error}") from error
    raw = np.asarray(modality.tensorise(encoded, statistics), dtype=np.float32)
    _require(raw.ndim == 2 and len(raw) == len(encoded.tokens), f"tensorise gives shape {raw.shape}")
    _require(bool(np.isfinite(raw).all()), "tensorise gives a value that is not finite")
    torch.manual_seed(0)
    network = modality.build_encoder(config, statistics).eval()
    count = min(len(raw), 3)
    values = torch.from_numpy(raw[:count])[None]
    hours = torch.from_numpy(encoded.tokens["time_hours"].to_numpy(np.float32)[:count])[None]
    whole = Tokens(values, torch.ones(1, count).bool(), hours)
    embedded = network.embed(whole)
    output = network(embedded)
    cells = count * network.cells
    _require(
        embedded.values.shape[1] == cells, f"embed gives {embedded.values.shape[1]} tokens for {cells} cells"
    )
    expected = (1, output.values.shape[1] if network.pools else cells, network.dim)
    _require(output.values.shape == expected, f"forward gives shape {tuple(output.values.shape)}")
    _require(
        network.baseline(embedded).shape == embedded.values.shape, "baseline has another shape than embed"
    )
    padded = network.embed(_padded(whole))
    summary = network.summarise(embedded)
    _require(summary.ndim == 2 and len(summary) == 1, f"summarise gives shape {tuple(summary.shape)}")
    _close(network.summarise(padded)[:1], summary, "padding changes the summary")
    _require(
        not bool(network.summarise(padded).isnan().any()), "the summary of a subject without tokens is NaN"
    )
    padded = network(padded)
    _close(padded.values[0, padded.mask[0]], output.values[0, output.mask[0]], "padding changes the tokens")
    _require(not bool(padded.mask[1:].any()), "a subject without tokens gets some")
    _require(not bool(padded.values[1:].isnan().any()), "a subject without tokens gives NaN")


def _padded(tokens: Tokens) -> Tokens:
    """The tokens with two masked ones after them, and a second subject that has none."""
    values = torch.cat([tokens.values, tokens.values[:, :1], tokens.values[:, :1]], dim=1).repeat(2, 1, 1)
    mask = torch.zeros(values.shape[:2]).bool()
    mask[0, : tokens.mask.shape[1]] = True
    time = torch.zeros(values.shape[:2])
    time[0, : tokens.mask.shape[1]] = tokens.time[0]
    return Tokens(values, mask, time)


def _check_locate(modality: Modality, encoded: Encoded, config: ModalityConfig) -> None:
    cells = modality.build_encoder(config, modality.fit(encoded, config)).cells
    for row in encoded.tokens.to_dict("records"):
        for cell in range(cells):
            place = modality.locate({str(key): value for key, value in row.items()}, cell)
            _require(place.kind in _KINDS, f"locate: kind {place.kind!r}; known are {', '.join(_KINDS)}")
            _require(bool(place.text), "locate: the place has no text for a person")
            _require(place.time_hours == float(row["time_hours"]), "locate: another time than the token's")


def _of_subject(encoded: Encoded, subject: str) -> Encoded:
    rows = np.flatnonzero((encoded.tokens["subject_id"] == subject).to_numpy())
    return Encoded(encoded.tokens.iloc[rows].reset_index(drop=True), encoded.values[rows])


def _same(one: Encoded, other: Encoded, law: str) -> None:
    _require(one.tokens.equals(other.tokens[list(one.tokens.columns)]), law)
    _require(one.values.shape[1:] == other.values.shape[1:], law)
    _close(torch.from_numpy(np.array(one.values)), torch.from_numpy(np.array(other.values)), law)


def _close(one: torch.Tensor, other: torch.Tensor, law: str) -> None:
    _require(torch.allclose(one.float(), other.float(), atol=_TOLERANCE, rtol=_TOLERANCE), law)


def _require(holds: bool, law: str) -> None:
    if not holds:
        raise ContractBrokenError(law)
