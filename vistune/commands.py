"""Commands beside the stages: looking at formats, families, releases and samples. Heavy imports happen inside."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from vistune.errors import VistuneError

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error")]


class ExportCommand(TyperCommand):
    """A command whose help goes on to list release views and box formats."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        from vistune.boxcodec import CODECS

        if self.name == "export":
            from vistune.export import VIEWS

            with formatter.section("Views"):
                formatter.write_dl([(name, view.what) for name, view in VIEWS.items()])
        with formatter.section("Box formats"):
            formatter.write_dl([(codec.name, codec.words()) for codec in CODECS.values()])


Release = Annotated[Path, typer.Argument(help="Output of `vistune validate`", metavar="RELEASE")]


def export_view(
    view: Annotated[str, typer.Option("--as", help="Form of the export, see below", metavar="VIEW")],
    release: Release = Path("outputs/validate"),
    output: Annotated[Path | None, typer.Option(help="[default: outputs/export/VIEW]", metavar="DIR")] = None,
    boxes: Annotated[str, typer.Option(help="Format of boxes in the text, see below", metavar="FORMAT")] = "vistune",
    split: Annotated[str, typer.Option(help="Only this split [default: all]", metavar="SPLIT")] = "",
    debug: Debug = False,
) -> None:
    """Write a release in the form that another trainer, hub or loader reads."""
    from vistune.export import described, export

    target = output or Path("outputs/export") / view
    print(f"{described(export(release, view, target, boxes, split))}\n  in {target}")


def explain(
    id: Annotated[
        str, typer.Argument(help="Sample (or the start of its id), run, models:/NAME@alias or scorecard.json")
    ] = "",
    release: Annotated[Path, typer.Option(help="Output of validate, adapt or self_instruct", metavar="FOLDER")] = Path(
        "outputs/validate"
    ),
    annotation: Annotated[str, typer.Option(help="List the samples made from this annotation", metavar="ID")] = "",
    template: Annotated[str, typer.Option(help="... phrased by this template", metavar="ID[@VERSION]")] = "",
    source: Annotated[str, typer.Option(help="... about images of this data set", metavar="DATASET")] = "",
    licence: Annotated[str, typer.Option(help="... of images or annotations under this licence", metavar="NAME")] = "",
    debug: Debug = False,
) -> None:
    """Show what made a sample, run, model version or scorecard; or list the samples (id, task) that something made."""
    from vistune.explain import explain as about_sample
    from vistune.provenance.about import about
    from vistune.search import Query, lines

    query = Query(annotation, template, source, licence)
    if bool(id) == any(vars(query).values()):
        raise VistuneError("explain needs either an id, or some of --annotation, --template, --source and --licence.")
    try:
        if id:
            print(about(id) or about_sample(release, id))
        else:
            for text in lines(release, query):
                sys.stdout.buffer.write(text)
            sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def contact_sheet(
    release: Release = Path("outputs/validate"),
    output: Annotated[Path, typer.Option(help="HTML file; a PNG is written beside it", metavar="FILE")] = Path(
        "sheet.html"
    ),
    boxes: Annotated[
        list[str], typer.Option(help="Format to show, see below; repeatable [default: all]", metavar="FORMAT")
    ] = [],  # noqa: B006
    count: Annotated[int, typer.Option(help="Images to show")] = 24,
    debug: Debug = False,
) -> None:
    """Draw boxes of a release as each export writes them, so that a wrong frame is seen."""
    from vistune.sheet import write_sheet

    made = write_sheet(release, output, boxes, count)
    print(f"sheet: {made['images']} images in {made['formats']} formats\n  in {made['html']} and {made['png']}")


def families(
    name: Annotated[str, typer.Argument(help="A family: its presets and published recipe", show_default=False)] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of docs/families.md")] = False,
    figure: Annotated[
        Path | None, typer.Option(help="Draw what each family sees of one picture, as a PNG", metavar="FILE")
    ] = None,
    debug: Debug = False,
) -> None:
    """List the model families, or show the presets and the recipe of one."""
    from vistune.models import catalogue

    if figure:
        from vistune.models.figure import draw

        draw(figure)
        print(f"families: drawn\n  in {figure}")
    elif markdown:
        print(catalogue.markdown(), end="")
    elif name:
        catalogue.print_family(name)
    else:
        catalogue.print_table()


def print_formats() -> None:
    """Prints the table of annotation formats."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vistune.sources import FORMATS

    table = Table(box=box.SIMPLE, title="Annotation formats, for --source FORMAT:PATH and files.format in params.yaml")
    table.add_column("FORMAT", no_wrap=True)
    table.add_column("what", overflow="fold", ratio=2)
    table.add_column("fields, and what annotations= names", overflow="fold", ratio=3)
    for name, format in FORMATS.items():
        second = f"\nannotations={'' if format.needs else ' (optional)'}: {format.annotations}"
        fields = format.fields + (second if format.annotations else "")
        table.add_row(name, Text(format.what), Text(fields))  # Text: brackets are no markup
    Console().print(table)
