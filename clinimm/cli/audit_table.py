"""``clinimm audit-table``: any table of predictions, from any tool, without torch."""

from __future__ import annotations

import math
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clinimm.core.errors import CliniMMError, ConfigError, IntegrityError

if TYPE_CHECKING:
    from clinimm.audit.policy import Policy

EXIT_BAD_INPUT, EXIT_OTHER_EVIDENCE = 3, 4

Many = list[str] | None


def add_to(app: typer.Typer) -> None:
    """Add this file's verb."""
    app.command("audit-table")(audit_table)


def audit_table(  # noqa: PLR0913, PLR0917  # one parameter an option
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Parquet or CSV, one row a prediction.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the evidence.")],
    attribute: Annotated[
        Many, typer.Option("--attribute", metavar="A", help="Column of groups, or race*sex; repeatable.")
    ] = None,
    metric: Annotated[
        Many, typer.Option("--metric", metavar="M", help="What no group may be worse in; repeatable.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", metavar="T", help="Probability from which a row is flagged."),
    ] = None,
    margin: Annotated[
        float | None, typer.Option("--margin", metavar="D", help="Largest difference that is tolerated.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="Rules from a file instead.")
    ] = None,
    reference: Annotated[
        str, typer.Option("--reference", metavar="R", help="Compare with rest, overall, or a level.")
    ] = "rest",
    bins: Annotated[
        Many, typer.Option("--bins", metavar="A=X,Y", help="Edges for a number, such as age=40,65.")
    ] = None,
    source: Annotated[
        Many,
        typer.Option("--source", metavar="A=S", help="self_report, registry or inferred (never decides)."),
    ] = None,
    intersections: Annotated[
        int | None,
        typer.Option("--intersections", metavar="N", help="Show combinations of up to N attributes."),
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="C", help="Column; '' if each row is a subject.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="C", help="Column of the outcome.")] = None,
    probability: Annotated[
        str | None, typer.Option("--probability", metavar="C", help="Column of the predicted risk.")
    ] = None,
    row: Annotated[str | None, typer.Option("--row", metavar="C", help="Column that names each row.")] = None,
    slices: Annotated[
        bool, typer.Option("--slices", help="Search slices of up to three attributes and features.")
    ] = False,
    feature: Annotated[
        Many, typer.Option("--feature", metavar="C", help="Further column to slice by; repeatable.")
    ] = None,
    outcome: Annotated[
        str | None,
        typer.Option("--outcome", metavar="C", help="Outcome that did not make the label: label validity."),
    ] = None,
    time: Annotated[
        str | None, typer.Option("--time", metavar="C", help="Day or period of a row: drift of gaps.")
    ] = None,
    metadata: Annotated[
        Many, typer.Option("--metadata", metavar="C", help="Column that should not tell the label.")
    ] = None,
    embedding: Annotated[
        str | None, typer.Option("--embedding", metavar="P", help="Columns of an embedding begin with this.")
    ] = None,
    waivers: Annotated[
        Path | None, typer.Option("--waivers", metavar="FILE", help="What may stand, until when, and why.")
    ] = None,
    on: Annotated[
        datetime | None,
        typer.Option("--on", formats=["%Y-%m-%d"], help="Day on which waivers are looked at; today."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 4 unless DIR holds this same evidence.")
    ] = False,
) -> None:
    """Audit a table of predictions with demographics.

    Columns subject_id, label and probability, and one for each attribute. Exits 0 where nothing
    blocks, 1 where a group is worse than the policy allows, 2 where the data cannot tell, 3 where the
    table or the policy is wrong, and 4 where --check finds other evidence. What --slices, --outcome,
    --time, --metadata and --embedding find is written to signals.html and changes no exit status.
    """
    from clinimm.audit.table.run import audit_table as make
    from clinimm.audit.table.signals import signal_files, table_signals, with_signals
    from clinimm.audit.table.write import check_evidence, evidence, replace_evidence
    from clinimm.audit.waiver import load_waivers

    columns = {"subject": subject, "label": label, "probability": probability, "row": row}
    changes = {
        "threshold": threshold,
        "intersections": intersections,
        "columns": {name: value for name, value in columns.items() if value is not None},
        "detect": {
            name: value
            for name, value in {
                "slices": slices,
                "features": feature,
                "outcome": outcome,
                "time": time,
                "metadata": metadata,
                "embedding": embedding,
            }.items()
            if value
        },
    }
    try:
        chosen = _policy(policy, attribute or [], metric or [], margin, reference)
        chosen = _changed(chosen, changes, _pairs("--bins", bins), _pairs("--source", source))
        agreed = () if waivers is None else load_waivers(waivers)
        day = (on.date() if on else date.today()) if agreed else None
        audit = make(file, chosen, agreed, day)
        signals, more = None, {}
        if chosen.table.detect.asked:
            ((name, study),) = audit.studies.items()
            signals = table_signals(file, study.rows, chosen.table)
            more = signal_files({name: signals}, file.name)
            audit = with_signals(audit, {name: signals})
        files = evidence(audit, chosen) | more
        if check:
            check_evidence(out, files)
        else:
            replace_evidence(out, files)
    except CliniMMError as error:
        typer.echo(f"clinimm: {error}", err=True)
        other = isinstance(error, IntegrityError)
        raise typer.Exit(EXIT_OTHER_EVIDENCE if other else EXIT_BAD_INPUT) from error
    for finding in audit.content["findings"]:
        waived = " (waived)" if finding["waived"] else "" if finding["gates"] else " (not deciding)"
        typer.echo(f"{finding['verdict'] + waived:<13} {finding['rule']:<14} {finding['sentence']}")
    for name, (raised, sentences) in ({} if signals is None else signals.by_detector).items():
        for sentence in sentences:
            typer.echo(f"{'signal' if raised else 'no signal':<13} {name:<14} {sentence}")
    typer.echo(audit.content["sentence"])
    typer.echo(f"{'same evidence' if check else 'audit'}: {out / 'audit.html'}")
    raise typer.Exit(audit.exit_status)


def _policy(
    path: Path | None, attributes: list[str], metrics: list[str], margin: float | None, reference: str
) -> Policy:
    from pydantic import ValidationError

    from clinimm.audit.policy import Policy, load_policy

    if path is not None:
        if attributes or metrics or margin is not None:
            raise ConfigError(
                "--policy already says what is asked; leave out --attribute, --metric, --margin."
            )
        return load_policy(path)
    if not attributes or not metrics or margin is None:
        raise ConfigError("give --attribute, --metric, --threshold and --margin, or --policy FILE.")
    rules = [
        {
            "id": name.replace("_", "-"),
            "metric": name,
            "stat": "difference",
            "attribute": list(dict.fromkeys(attributes)),
            "reference": reference,
            "margin": margin,
        }
        for name in dict.fromkeys(metrics)
    ]
    content = {"schema": "clinimm.policy/1", "statistics": {"inconclusive": "block"}, "rules": rules}
    try:
        return Policy.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = first["loc"][-1] if first["loc"] else "metric"
        raise ConfigError(f"--{where}: {first['msg']}, got {first['input']!r}.") from error


def _changed(
    policy: Policy, changes: dict[str, Any], bins: dict[str, str], sources: dict[str, str]
) -> Policy:
    """The policy with what the command line says instead."""
    from pydantic import ValidationError

    from clinimm.audit.table.run import attributes_of
    from clinimm.audit.table_settings import TableSettings

    table = policy.table.model_dump()
    table["columns"] |= changes["columns"]
    table["detect"] |= changes["detect"]
    table |= {name: changes[name] for name in ("threshold", "intersections") if changes[name] is not None}
    for name, edges in bins.items():
        table["attributes"].setdefault(name, {})["bins"] = _edges(name, edges)
    known = [*attributes_of(policy), *table["detect"]["features"], *table["detect"]["metadata"]]
    for option, named in (("--bins", bins), ("--source", sources)):
        if unknown := [name for name in named if name not in known]:
            raise ConfigError(f"{option} {unknown[0]}={named[unknown[0]]}: nothing asks for {unknown[0]}.")
    for name, source in sources.items():
        table["attributes"].setdefault(name, {})["source"] = source
    try:
        return policy.model_copy(update={"table": TableSettings.model_validate(table)})
    except ValidationError as error:
        first = error.errors()[0]
        where = " ".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {first['msg']}, got {first['input']!r}.") from error


def _edges(name: str, text: str) -> list[float]:
    try:
        edges = [float(edge) for edge in text.split(",")]
    except ValueError:
        edges = [math.nan]
    if not all(map(math.isfinite, edges)):
        raise ConfigError(f"--bins {name}={text}: expected numbers with commas between them.")
    return edges


def _pairs(option: str, values: Many) -> dict[str, str]:
    found = {}
    for value in values or ():
        name, equals, text = value.partition("=")
        if not equals or not name or not text:
            raise ConfigError(f"{option} {value}: expected ATTRIBUTE=VALUE.")
        found[name] = text
    return found
