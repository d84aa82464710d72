"""`vistune verify-lineage`, `purge` and `promotions`: what they print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vistune.commands import Debug
from vistune.errors import VistuneError

Release = Annotated[Path, typer.Option(help="Output of `vistune validate`", metavar="FOLDER")]


def verify_lineage(
    target: Annotated[str, typer.Argument(help="models:/NAME@champion, models:/NAME/3 or a scorecard.json")],
    outputs: Annotated[Path, typer.Option(help="Folder of the stages' outputs", metavar="DIR")] = Path("outputs"),
    figure: Annotated[Path | None, typer.Option(help="Draw what was found, as an SVG", metavar="FILE")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="What could not be looked at is an error too")] = False,
    debug: Debug = False,
) -> None:
    """Walk from a model version back to its sources, read everything again, and name the first broken link.

    Exit status: 0 the chain holds, 1 a link is broken.
    """
    from vistune.provenance.verify import walk

    links = []
    for link in walk(target, outputs):
        print(f"{link.state:<9}{link.name:<24}{link.detail}", flush=True)
        links.append(link)
    if figure is not None:
        from vistune.provenance.figure import draw

        draw(figure, f"Lineage of {target}", links)
    if links[-1].state == "broken":
        raise VistuneError(f"the lineage of {target} is broken at: {links[-1].name}.")
    skipped = sum(link.state == "skipped" for link in links)
    if strict and skipped:
        raise VistuneError(f"{skipped} links of {target} could not be looked at from here (--strict).")
    print(f"the lineage of {target} holds" + (f"; {skipped} links were not looked at" if skipped else ""))


def purge(
    source: Annotated[str, typer.Option(help="What is about images of this data set", metavar="DATASET")] = "",
    licence: Annotated[str, typer.Option(help="... of images or annotations under this licence", metavar="NAME")] = "",
    prompt: Annotated[str, typer.Option(help="... written by this prompt", metavar="ID[@VERSION]")] = "",
    template: Annotated[str, typer.Option(help="... phrased by this template", metavar="ID[@VERSION]")] = "",
    annotation: Annotated[str, typer.Option(help="... made from this annotation", metavar="ID")] = "",
    release: Release = Path("outputs/validate"),
    write: Annotated[
        Path | None, typer.Option(help="Write the release without it to this folder", metavar="DIR")
    ] = None,
    why: Annotated[str, typer.Option(help="Reason, kept with the cleaned release", metavar="TEXT")] = "",
    debug: Debug = False,
) -> None:
    """List the samples, releases, runs and model versions that a withdrawal touches, and write a release without them.

    Several options together narrow it down: an annotation's id is unique in its data set only.
    """
    from vistune.provenance import purge as purging
    from vistune.search import Query

    query = Query(annotation, template, source, licence, prompt)
    if query == Query():
        raise VistuneError("purge needs to know what is withdrawn: --source, --licence, --prompt, --annotation.")
    hit = purging.touched(query, release)
    print(f"{purging.said(query)} touches")
    for folder, rows in hit.releases.items():
        print(f"  {rows:,} samples of the release in {folder}")
    for run in hit.runs:
        print(f"  run {run.run_id} ({run.name})")
    for v in hit.versions:
        print(f"  models:/{v.name}/{v.version}{' · ' + ', '.join(v.aliases) if v.aliases else ''}")
    if not hit.releases:
        print("  nothing on this machine")
    if write is None:
        return
    from vistune.cli import settings
    from vistune.stages import Settings

    params = Settings.parse(settings(None, [], [])).sections["validate"]
    note = purging.write(query, release, write, why, params)
    print(f"purged: {note['removed']:,} samples removed, {note['kept']:,} kept · digest {note['digest']}\n  in {write}")
    champion = any("champion" in v.aliases for v in hit.versions)
    print(f"next: vistune tune --input validate={write}" + ("; vistune rollback" if champion else ""))


def promotions(
    model: Annotated[str, typer.Argument(help="Registered model", metavar="NAME")],
    debug: Debug = False,
) -> None:
    """Show who registered, promoted and rolled back which version of a model, when, and on what evidence."""
    from vistune import tracking
    from vistune.comparison import Comparison
    from vistune.promote import registry
    from vistune.promote.journal import FILE, Journal
    from vistune.stages import home

    events = registry.history(model) if tracking.enabled() else []
    Journal(home() / FILE).check(events)
    if not events:
        raise VistuneError(f"{model} has no promotions. Check the name, and MLFLOW_TRACKING_URI.")
    for e in events:
        after = f" after {e['previous']}" if e["previous"] else ""
        print(f"{e['when']}  {e['event']} version {e['version']}{after} by {e['who']} · gate {e['verdict']}")
        print(f"{'':<22}{' · '.join(f'{key} {value[:12]}' for key, value in sorted(e['evidence'].items()))}")
        if "comparison" in e:
            print(f"{'':<22}{Comparison.read(e['comparison']).sentence}")
