"""`make compile`: writes every pipeline for Kubeflow to build/NAME.yaml, for the cluster that placing.py describes.

python pipelines/compiling.py [NAME ...] [--output DIR]
"""

import argparse
import importlib
import sys
from pathlib import Path

from kfp import compiler, dsl
from placing import ROOT, Cluster

PIPELINES = {
    "instruction_tuning": "annotated images in, a promoted model and a report out",
    "data_only": "annotated images in, a checked release out",
    "evaluate_only": "any model in, a scorecard out",
    "promote_only": "artefacts of an earlier run in, a registry version out",
    "sweep": "several models from one release; the best one is put forward for promotion",
}


def build(name: str, cluster: Cluster | None) -> dsl.base_component.BaseComponent:
    """The pipeline of this name, for a cluster or for this machine."""
    return importlib.import_module(name).build(cluster)


def compile_to(name: str, folder: Path = ROOT / "build") -> Path:
    """Writes the pipeline for the cluster that the environment describes; equal settings give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.yaml"
    compiler.Compiler().compile(build(name, Cluster.from_environment()), str(target))
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(PIPELINES), metavar="NAME", help=", ".join(PIPELINES))
    parser.add_argument("--output", type=Path, default=ROOT / "build", metavar="DIR")
    options = parser.parse_args()
    for name in options.names:
        if name not in PIPELINES:
            parser.error(f"there is no pipeline {name!r}; expected some of {', '.join(PIPELINES)}")
        print(compile_to(name, options.output), file=sys.stderr)


if __name__ == "__main__":
    main()
