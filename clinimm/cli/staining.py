"""The verbs of virtual staining: stain one slide, and say where a picture comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clinimm.cli.common import Overrides, Quiet, Run, find_run, find_subject, load_workspace

if TYPE_CHECKING:
    from clinimm.staining.provenance import Verdict
    from clinimm.staining.stain_file import StainOutcome

#: Characters of a line about a file that may be anybody's.
_LONGEST_LINE = 2000

provenance = typer.Typer(help="Where a generated picture comes from.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add this file's verbs."""
    app.command()(stain)
    app.add_typer(provenance, name="provenance")


def stain(  # noqa: PLR0913, PLR0917  # one argument an option of the command line
    run: Run,
    slide: Annotated[
        Path, typer.Argument(metavar="SLIDE", help="A slide file, or the folder of a DICOM slide.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="An .ome.tif; a folder for DICOM.")],
    stain: Annotated[
        str | None, typer.Option("--stain", metavar="NAME", help="Which stain, if the model makes several.")
    ] = None,
    resolution_um: Annotated[
        float | None,
        typer.Option(
            "--resolution-um", metavar="X", min=0.01, max=100, help="µm a pixel of a slide that states none."
        ),
    ] = None,
    form: Annotated[Literal["ome", "dicom"], typer.Option("--format", help="Format of the output.")] = "ome",
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="S", help="Whose record conditions the stain.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Go on where an interrupted call stopped.")
    ] = True,
    lossless: Annotated[bool, typer.Option("--lossless", help="Compress without loss.")] = False,
    keep_identity: Annotated[
        bool, typer.Option("--keep-identity", help="Carry over patient, study and UIDs of a DICOM slide.")
    ] = False,
    allow_synthetic: Annotated[
        bool, typer.Option("--allow-synthetic", help="Stain a slide that is itself generated.")
    ] = False,
    despite_verdict: Annotated[
        bool,
        typer.Option("--despite-verdict", help="Make a stain that is not known to be learnable."),
    ] = False,
    without_safety_case: Annotated[
        bool, typer.Option("--without-safety-case", help="Use a model that cannot refuse anything.")
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Public key of who registered the run; default is yours."),
    ] = None,
    settings: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Stain a whole slide virtually; the result is marked as generated, and signed.

    A registered run must be what was signed. What a reader must know of it (not registered, no safety
    case, not evaluated, verdict overridden, trained on synthetic images, whose record) stands in the
    output and in the file. Only an earlier output of this command is written over.
    """
    from clinimm.progress import Progress
    from clinimm.staining.stain_file import StainRequest, stain_file

    folder = find_run(run, settings)
    chosen = None if subject is None else find_subject(load_workspace(folder, settings), subject)
    request = StainRequest(
        run=folder,
        slide=slide,
        out=out,
        stain=stain,
        resolution_um=resolution_um,
        form=form,
        subject_id=chosen,
        lossless=lossless,
        restart=not resume,
        keep_identity=keep_identity,
        allow_synthetic=allow_synthetic,
        despite_verdict=despite_verdict,
        without_safety_case=without_safety_case,
        trusted_key=key,
    )
    for line in outcome_lines(out, stain_file(request, Progress(quiet))):
        typer.echo(line)


def outcome_lines(out: Path, outcome: StainOutcome) -> list[str]:
    """What a person should know of a stained slide."""
    stained = outcome.stained
    base = stained.pyramid.levels[0]
    refused = "nothing could be refused"
    if outcome.cautions.safety_case:
        why = ", ".join(f"{count} {reason}" for reason, count in stained.refused_tiles.items())
        tiles = f"; tiles: {why}" if why else ""
        refused = f"{stained.refused_share:.1%} refused (hatched grey{tiles})"
    return [
        f"virtual {stained.settings.stain}: {out} ({base.width} x {base.height} pixels, "
        f"{stained.um[0]:.3g} µm a pixel)",
        f"  {stained.stained_share:.1%} stained, {stained.glass_share:.1%} glass, {refused}",
        *(f"  {sentence}" for sentence in outcome.cautions.sentences),
        f"  signed: {outcome.manifest}",
    ]


@provenance.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An OME-TIFF, a DICOM file, or its folder.")],
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="The signer's public key; default is your own."),
    ] = None,
) -> None:
    """Say which model made a picture of what, and whether it is still what was signed.

    Exits with 0 if it is intact and signed by a known key, 2 if it was altered, 3 if nobody vouches
    for it or it cannot be read.
    """
    from clinimm.staining.provenance import verify_file

    verdict = verify_file(file, key)
    for line in verdict_lines(file, verdict):
        typer.echo(line)
    if verdict.state.value:
        raise typer.Exit(verdict.state.value)


def verdict_lines(file: Path, verdict: Verdict) -> list[str]:
    """A verdict in words; what the file says of itself is marked as claimed unless it is intact.

    A manifest may be anybody's, so nothing in it that would move a terminal's cursor is passed on.
    """
    return [_printable(line) for line in _verdict_lines(file, verdict)]


def _printable(line: str) -> str:
    """A line without line breaks, escape sequences and changes of direction, and not too long."""
    return "".join(one if one.isprintable() else "\ufffd" for one in line[:_LONGEST_LINE])


def _verdict_lines(file: Path, verdict: Verdict) -> list[str]:
    words = {"INTACT": "intact", "ALTERED": "ALTERED", "UNKNOWN": "not vouched for"}[verdict.state.name]
    signed = f", signed by key {verdict.key_id}" if verdict.key_id else ""
    lines = [f"{file}: {words}{signed}", *(f"  {one}" for one in verdict.findings)]
    if verdict.checked:
        lines.append(f"  checked:   {verdict.checked}")
    made = verdict.provenance
    if made is None:
        return lines
    claimed = "  " if verdict.state.name == "INTACT" else "  claimed "
    stain = made.stain or "stain of unknown name"
    lines.append(f"{claimed}generated: virtual {stain}, by {made.generator or 'unknown'}")
    lines.append(f"{claimed}model:     {made.model_digest or 'not stated'}")
    lines.append(f"{claimed}source:    {made.source_digest or 'not stated'}")
    if verdict.manifest is not None:
        shares = verdict.manifest["shares"]
        lines.append(
            f"{claimed}shares:    {shares['stained']:.1%} stained, {shares['glass']:.1%} glass, "
            f"{shares['refused']:.1%} refused"
        )
        lines += [
            f"{claimed}caution:   {one}" for one in verdict.manifest.get("cautions", {}).get("sentences", ())
        ]
    return lines
