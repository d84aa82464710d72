"""Writes the README.md of every component from its component.py and metadata.yaml: `make readmes`.

python components/readme.py [--check]       --check: exit status 1 when one of them is not as it would be written
"""

import argparse
import ast
import re
import sys
import textwrap
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
KEYS = ("name", "tier", "stability", "dependencies", "externalServices", "tags", "lastVerified")


def metadata(folder: Path) -> dict:
    """Of a component; raises SystemExit when a key is missing or unknown."""
    found = yaml.safe_load((folder / "metadata.yaml").read_text(encoding="utf-8"))
    if tuple(found) != KEYS:
        raise SystemExit(f"{folder.name}/metadata.yaml has the keys {', '.join(found)}; expected {', '.join(KEYS)}.")
    return found


def functions(folder: Path) -> tuple[str, list[ast.FunctionDef]]:
    """The file's docstring, and its component functions."""
    tree = ast.parse((folder / "component.py").read_text(encoding="utf-8"))
    return ast.get_docstring(tree) or "", [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def sections(docstring: str) -> tuple[str, dict[str, str], str]:
    """What it is, its arguments by name, and what it returns."""
    about, _, rest = docstring.partition("\n\nArgs:\n")
    about, _, returned = about.partition("\n\nReturns:\n") if not rest else (about, "", "")
    listed, _, after = rest.partition("\n\nReturns:\n")
    arguments: dict[str, str] = {}
    for line in textwrap.dedent(listed).splitlines():
        if found := re.match(r"(\w+): (.*)", line):
            arguments[name := found[1]] = found[2]
        elif line.strip():
            arguments[name] += f" {line.strip()}"
    return " ".join(about.split()), arguments, " ".join((after or returned).split())


def kind(annotation: ast.expr | None) -> str:
    """A type as a reader has it: `dsl.Input[dsl.Dataset]` is an input that is a Dataset."""
    text = ast.unparse(annotation) if annotation else ""
    return text.replace("dsl.", "").replace("Input[", "", 1).replace("Output[", "", 1).removesuffix("]")


def describe(node: ast.FunctionDef) -> list[str]:
    """The section about one function."""
    about, texts, returned = sections(ast.get_docstring(node) or "")
    lines = [f"## `{node.name}`", "", about, ""]
    first = len(node.args.args) - len(node.args.defaults)
    rows: dict[str, list[str]] = {"inputs": [], "outputs": []}
    for number, argument in enumerate(node.args.args):
        plain = ast.unparse(argument.annotation) if argument.annotation else ""
        type_ = kind(argument.annotation) if "put[" in plain else plain.replace("dsl.", "")
        default = f", default `{ast.unparse(node.args.defaults[number - first])}`" if number >= first else ""
        row = f"| `{argument.arg}` | {type_}{default} | {texts.get(argument.arg, '')} |"
        rows["outputs" if "Output[" in plain else "inputs"].append(row)
    for title, found in rows.items():
        if found:
            lines += [f"| {title[:-1]} | type | |", "|---|---|---|", *found, ""]
    return [*lines, f"Returns: {returned}", ""] if returned else lines


def readme(folder: Path) -> str:
    """The whole page."""
    about, nodes = functions(folder)
    facts = metadata(folder)
    needs = ", ".join(f"{name} {version}" for name, version in facts["dependencies"].items())
    lines = [f"# {facts['name']}", "", about, ""]
    lines += [f"*{facts['tier']} · {facts['stability']} · needs {needs} · last verified {facts['lastVerified']}*", ""]
    if facts["externalServices"]:
        lines += [f"Talks to: {', '.join(facts['externalServices'])}.", ""]
    for node in nodes:
        lines += describe(node)
    lines += [f"Tags: {', '.join(facts['tags'])}. Written by `make readmes` from `component.py` and `metadata.yaml`."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    stale = []
    for path in sorted(HERE.glob("*/component.py")):
        target, text = path.with_name("README.md"), readme(path.parent)
        if target.is_file() and target.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.parent.name)
        if not options.check:
            target.write_text(text, encoding="utf-8")
    if stale and options.check:
        print(f"not up to date: {', '.join(stale)}. Run `make readmes`.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
