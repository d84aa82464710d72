"""`vistune STAGE`: the command-line door to every stage. Heavy imports happen inside the commands."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from vistune import __version__
from vistune.commands import Debug, ExportCommand, contact_sheet, explain, export_view, families, print_formats
from vistune.errors import Interrupted, VistuneError
from vistune.params import resolve
from vistune.provenance.commands import promotions, purge, verify_lineage
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
Allow = Annotated[
    list[str],
    typer.Option(
        "--allow",
        help="Reject images under other licences; repeatable: a licence allows what asks for no more than it does. "
        "`commercial`: all that permit it; `unknown`: take unknown licences too",
        metavar="LICENCE",
    ),
]
Formats = Annotated[bool, typer.Option("--formats", help="List the annotation formats that are read, and stop")]


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
    try:
        done = execute(stage, Settings.parse(tree), inputs, target)
    except Interrupted as stopped:
        print(f"vistune: {stopped}", file=sys.stderr)
        raise typer.Exit(stopped.status) from None
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


def _tune(
    params: Params = None,
    overlay: Overlay = [],  # noqa: B006
    assign: Assign = [],  # noqa: B006
    given: Input = [],  # noqa: B006
    output: Output = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be read, cost and needed, and stop")] = False,
    exact: Annotated[bool, typer.Option("--exact", help="With --plan: tokenise every text of a large release")] = False,
    debug: Debug = False,
) -> None:
    tree = settings(params, overlay, assign)
    if not plan:
        _together("tune", tree, given, output)
        return
    from vistune.tune.forecast import show

    release = next((Path(text.partition("=")[2]) for text in given if text.startswith("validate=")), None)
    show(Settings.parse(tree), release or Path("outputs") / "validate", exact)


def _evaluate(
    params: Params = None,
    overlay: Overlay = [],  # noqa: B006
    assign: Assign = [],  # noqa: B006
    given: Input = [],  # noqa: B006
    output: Output = None,
    suite: Annotated[str, typer.Option("--suite", help="A file in eval/suites, e.g. quick", metavar="NAME")] = "",
    data: Annotated[str, typer.Option("--data", help="Folder of published benchmarks", metavar="DIR")] = "",
    listed: Annotated[bool, typer.Option("--list", help="List the benchmarks and where their files come from")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what the images can show, and the cost, and stop")] = False,
    rate: Annotated[float | None, typer.Option("--rate", help="Questions a second, for --plan", metavar="N")] = None,
    price: Annotated[float | None, typer.Option("--price", help="Of an hour, for --plan", metavar="N")] = None,
    debug: Debug = False,
) -> None:
    if listed:
        from vistune.evaluate.listing import print_list

        print_list(repository() / "eval")
        return
    if suite:  # its own gate, where it has one
        gate = suite if (repository() / "eval" / "gates" / f"{suite}.yaml").is_file() else "all"
        assign = [f"evaluate.suite={suite}", f"evaluate.gate={gate}", *assign]
    if data:
        assign = [f"evaluate.data={data}", *assign]
    tree = settings(params, overlay, assign)
    if not plan:
        _together("evaluate", tree, given, output)
        return
    from vistune.evaluate import planned

    chosen, sources = Settings.parse(tree), [Path(t.partition("=")[2]) for t in given if t.startswith("sources=")]
    folder = sources[0] if sources else Path("outputs") / "sources"
    planned.show(planned.plan(chosen.sections["evaluate"], folder, repository() / "eval", chosen.seed), rate, price)


def _together(stage: str, tree: dict[str, Any], given: list[str], output: Path | None) -> None:
    """The first of the processes that a launcher has started runs the stage; the others take a part in it."""
    together = int(os.environ.get("WORLD_SIZE", 1)) > 1
    if together and int(os.environ.get("RANK", 0)) > 0:
        try:
            import_module(f"vistune.{stage}.launch").follow()
        except Interrupted as stopped:
            raise typer.Exit(stopped.status) from None
        return
    run_stage(stage, tree, given, output)
    if together:
        import_module(f"vistune.{stage}.launch").dismiss()


def _adapt(
    params: Params = None,
    overlay: Overlay = [],  # noqa: B006
    assign: Assign = [],  # noqa: B006
    source: Source = [],  # noqa: B006
    allow: Allow = [],  # noqa: B006
    given: Input = [],  # noqa: B006
    output: Output = None,
    debug: Debug = False,
) -> None:
    tree = settings(params, overlay, assign)
    if allow:
        tree["adapt"] = {**(tree.get("adapt") or {}), "allow_licences": allow}
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
    elif _stage == "tune":
        app.command(_stage, help=STAGES[_stage].help, cls=StageCommand)(_tune)
    elif _stage == "evaluate":
        app.command(_stage, help=STAGES[_stage].help, cls=StageCommand)(_evaluate)
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


@app.command()
def preflight(
    params: Params = None,
    overlay: Overlay = [],  # noqa: B006
    assign: Assign = [],  # noqa: B006
    debug: Debug = False,
) -> None:
    """Check all that a run needs before anything costs money: here, or in the pod of a cluster with VISTUNE_IMAGE set.

    Every check is made. Exit status: 0 none failed, 1 one did; the table says what to do.
    """
    from vistune import preflight as checks

    tree = resolve(params or _default_params(), overlay, assign)
    findings = checks.run(tree, checks.needs_here())
    print(checks.table(findings))
    raise typer.Exit(int(any(one.state == "failed" for one in findings)))


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


app.command("export", cls=ExportCommand)(export_view)
app.command()(explain)
app.command("sheet", cls=ExportCommand)(contact_sheet)
app.command()(families)
app.command("verify-lineage")(verify_lineage)
app.command()(purge)
app.command()(promotions)


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
