"""`vistune STAGE`: the command-line door to every stage. Heavy imports happen inside the commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from vistune import __version__
from vistune.errors import VistuneError
from vistune.params import resolve
from vistune.stages import STAGES, Settings, execute, module, repository

app = typer.Typer(
    help="Annotated images in, an instruction-following vision-language model out: one versioned pipeline.",
    epilog="`vistune STAGE --help` explains a stage's inputs, outputs and parameters.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 110},
)

Params = Annotated[Path | None, typer.Option("--params", help="Parameters [default: ./params.yaml]", metavar="FILE")]
Overlay = Annotated[
    list[Path], typer.Option("--overlay", help="More parameters, laid over the first; repeatable", metavar="FILE")
]
Assign = Annotated[
    list[str], typer.Option("--set", help="Override one parameter; repeatable", metavar="STAGE.KEY=VALUE")
]
Input = Annotated[
    list[str], typer.Option("--input", help="Where an input lies [default: outputs/NAME]", metavar="NAME=DIR")
]
Output = Annotated[Path | None, typer.Option("--output", help="[default: outputs/STAGE]", metavar="DIR")]
Source = Annotated[
    list[str],
    typer.Option(
        "--source",
        help="Your own data instead of the configured sources; repeatable. E.g. coco_instances:boxes.json,images=jpg. "
        "`vistune sources --formats` lists the formats",
        metavar="FORMAT:PATH[,images=DIR]",
    ),
]
Formats = Annotated[bool, typer.Option("--formats", help="List the annotation formats that are read, and stop")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error")]


def settings(params: Path | None, overlays: list[Path], assignments: list[str]) -> dict[str, Any]:
    """The checked parameters tree; every stage's section is checked, whichever stage is run."""
    tree = resolve(params or _default_params(), overlays, assignments)
    Settings.parse(tree)
    return tree


def _default_params() -> Path:
    here = Path("params.yaml")
    return here if here.is_file() else repository() / "params.yaml"


def run_stage(stage: str, tree: dict[str, Any], given: list[str], output: Path | None) -> None:
    """Runs one stage and prints what went in and out."""
    inputs = {name: Path("outputs") / name for name in STAGES[stage].inputs}
    for assignment in given:
        name, equals, folder = assignment.partition("=")
        if not equals or name not in inputs:
            raise VistuneError(f"--input {assignment}: expected NAME=DIR with NAME one of {', '.join(inputs)}.")
        inputs[name] = Path(folder)
    target = output or Path("outputs") / stage
    done = execute(stage, Settings.parse(tree), inputs, target)
    from vistune.summary import counts_line

    time = "unchanged" if done.cached else f"{done.seconds:.1f} s"
    print(f"{stage}: {counts_line(done.summary)} · {time}\n  in {target}")


def from_sources(tree: dict[str, Any], sources: list[str]) -> None:
    """Replaces the configured sources in `tree` by `--source` arguments."""
    import dataclasses

    from vistune.sources import parse_source

    datasets = [dataclasses.asdict(parse_source(text)) for text in sources]
    tree["sources"] = {**(tree.get("sources") or {}), "demo": None, "benchmarks": [], "datasets": datasets}


class StageCommand(TyperCommand):
    """A command whose help goes on to explain the stage's inputs, outputs and parameters."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        from vistune.reference import parameters

        stage = "sources" if self.name == "demo-data" else str(self.name)
        home = module(stage)
        with formatter.section("Inputs"):
            names = [(n, f"outputs/{n}, {STAGES[n].help}") for n in STAGES[stage].inputs]
            formatter.write_dl(names or [("none", "this is where data enters")])
        with formatter.section("Output"):
            formatter.write_dl([(f"outputs/{stage}", " ".join((home.__doc__ or "").split()))])
        with formatter.section(f"Parameters (section `{stage}` of params.yaml)"):
            rows = []
            for p in parameters(home.Params):
                kind = f"{p.type}, default {p.default}" if p.default else f"{p.type}, required"
                rows.append((p.name, f"{p.text} ({kind})" if p.text else f"({kind})"))
            formatter.write_dl(rows or [("none", "")])


def _add_stage(stage: str) -> None:
    def command(
        params: Params = None,
        overlay: Overlay = [],  # noqa: B006
        assign: Assign = [],  # noqa: B006
        given: Input = [],  # noqa: B006
        output: Output = None,
        debug: Debug = False,
    ) -> None:
        run_stage(stage, settings(params, overlay, assign), given, output)

    app.command(stage, help=STAGES[stage].help, cls=StageCommand)(command)


def _sources(
    params: Params = None,
    overlay: Overlay = [],  # noqa: B006
    assign: Assign = [],  # noqa: B006
    source: Source = [],  # noqa: B006
    output: Output = None,
    formats: Formats = False,
    debug: Debug = False,
) -> None:
    if formats:
        print_formats()
        return
    tree = settings(params, overlay, assign)
    if source:
        from_sources(tree, source)
    run_stage("sources", tree, [], output)


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


def _adapt(
    params: Params = None,
    overlay: Overlay = [],  # noqa: B006
    assign: Assign = [],  # noqa: B006
    source: Source = [],  # noqa: B006
    given: Input = [],  # noqa: B006
    output: Output = None,
    debug: Debug = False,
) -> None:
    tree = settings(params, overlay, assign)
    if source:
        from_sources(tree, source)
        run_stage("sources", tree, [], None)
    run_stage("adapt", tree, given, output)


app.command("demo-data", help="Compose the demo corpus: the stage `sources`.", cls=StageCommand)(_sources)
for _stage in STAGES:
    if _stage == "sources":
        app.command(_stage, help=STAGES[_stage].help, cls=StageCommand)(_sources)
    elif _stage == "adapt":
        app.command(_stage, help=STAGES[_stage].help, cls=StageCommand)(_adapt)
    else:
        _add_stage(_stage)


@app.command()
def run(
    params: Params = None,
    overlay: Overlay = [],  # noqa: B006
    assign: Assign = [],  # noqa: B006
    debug: Debug = False,
) -> None:
    """Run the whole pipeline: here, or on the cluster that KFP_ENDPOINT names.

    Exit status: 0 the tuned model passed, 2 it failed, 3 the evidence is inconclusive, 1 an error.
    """
    tree_file = params or _default_params()
    options = ["--params", str(tree_file)]
    options += [x for file in overlay for x in ("--overlay", str(file))]
    options += [x for one in assign for x in ("--set", one)]
    options += ["--debug"] if debug else []
    driver = repository() / "pipelines" / "run.py"
    if not driver.is_file():
        raise VistuneError(f"{driver} does not exist. Run from a checkout, or set VISTUNE_ROOT to one.")
    raise typer.Exit(subprocess.call([sys.executable, str(driver), *options]))


@app.command("params")
def show_params(
    params: Params = None,
    overlay: Overlay = [],  # noqa: B006
    assign: Assign = [],  # noqa: B006
    debug: Debug = False,
) -> None:
    """Print all parameters after overlays and overrides, each with its meaning."""
    from vistune.reference import to_yaml

    parsed = Settings.parse(settings(params, overlay, assign))
    print(to_yaml(parsed.seed, parsed.sections, {s: STAGES[s].help for s in STAGES}), end="")


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


@app.command("export", cls=ExportCommand)
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


@app.command()
def explain(
    id: Annotated[str, typer.Argument(help="Id of a sample, or the start of one", show_default=False)] = "",
    release: Annotated[Path, typer.Option(help="Output of validate, adapt or self_instruct", metavar="FOLDER")] = Path(
        "outputs/validate"
    ),
    annotation: Annotated[str, typer.Option(help="List the samples made from this annotation", metavar="ID")] = "",
    template: Annotated[str, typer.Option(help="... phrased by this template", metavar="ID[@VERSION]")] = "",
    source: Annotated[str, typer.Option(help="... about images of this data set", metavar="DATASET")] = "",
    debug: Debug = False,
) -> None:
    """Show what made a sample; or list the samples (id, task) that an annotation, template or data set made."""
    from vistune.explain import Query, search
    from vistune.explain import explain as about

    query = Query(annotation, template, source)
    if bool(id) == any(vars(query).values()):
        raise VistuneError("explain needs either the id of a sample, or some of --annotation, --template and --source.")
    try:
        if id:
            print(about(release, id))
        else:
            sys.stdout.writelines(f"{sample}\t{task}\n" for sample, task in search(release, query))
            sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command("sheet", cls=ExportCommand)
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


@app.command()
def rollback(
    model: Annotated[str, typer.Option(help="Registered model [default: promote.name of the parameters]")] = "",
    params: Params = None,
    overlay: Overlay = [],  # noqa: B006
    assign: Assign = [],  # noqa: B006
    debug: Debug = False,
) -> None:
    """Make the previous champion the champion again."""
    from vistune import promote

    chosen = Settings.parse(settings(params, overlay, assign)).sections["promote"].name
    print(promote.rollback(model or chosen))


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port of the page")] = 5000, debug: Debug = False) -> None:
    """Show runs, metrics and the model registry in the browser (MLflow)."""
    from vistune import tracking

    where = tracking.uri()
    if where.startswith(("http://", "https://")):
        print(f"MLflow runs at {tracking.redact_text(where)}")
        return
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", where, "--workers", "1"]
    print(f"MLflow: http://127.0.0.1:{port} (Ctrl-C stops it)", flush=True)
    raise typer.Exit(
        subprocess.call([*command, "--port", str(port)], env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"})
    )


@app.command()
def version() -> None:
    """Print the version and the code's git revision."""
    from vistune import lineage

    sha, dirty = lineage.git()
    print(f"vistune {__version__}" + (f" ({sha[:12]}{', with changes' if dirty else ''})" if sha else ""))


def main() -> None:
    try:
        app()
    except VistuneError as error:
        if "--debug" in sys.argv:
            raise
        print(f"vistune: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
