"""Files that are either whole or absent: atomic writes, linked trees, tree digests."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.hashing import file_digest, merkle_root

PICTURES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".jp2"))


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is fsynced and renamed, on failure removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as f:
            os.fsync(f.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Indented JSON with sorted keys and a final newline: the same value gives the same bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Raises VistuneError naming the file, and the line where the JSON breaks. `pairs` makes objects of their members
    instead of `dict`, which keeps only the last of equal keys."""
    try:
        found = decode(path) if pairs is None else None
        return found if found is not None else json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=pairs)
    except FileNotFoundError:
        raise VistuneError(f"{path} does not exist. Check the path, or run the stage that writes it.") from None
    except OSError as error:  # a folder, a file of another user
        raise VistuneError(f"{path} cannot be read ({error.strerror}). Name a JSON file.") from None
    except (ValueError, RecursionError) as error:  # malformed, no UTF-8, a number of 5,000 digits, nested too deep
        raise VistuneError(
            f"{path} is not valid JSON ({error}). The file may be cut short or in another format; "
            "restore it from its origin and run again."
        ) from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file; none when there is no such file. Raises VistuneError naming a bad line."""
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line:
            continue
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            problem = f"{path}, line {number} is not JSON ({error})"
            raise VistuneError(f"{problem}. Run the stage that writes it again.") from None
    return found


def decode(path: Path, kind: Any = Any) -> Any:
    """What `json.loads` makes of a file, in half the time or, with the type of what it should hold, in a third. None
    where it is of another type, no JSON or no file at all, and for what only `json` reads: NaN, infinity and half
    characters. `read_json` then reads it, or says what is wrong."""
    import msgspec

    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError, OSError):
        return None


def inside(root: Path, relative: str) -> Path:
    """`root / relative`, refused when it would leave `root` (absolute, `..`, or a link outwards)."""
    path = (root / relative).resolve()
    if not path.is_relative_to(root.resolve()):
        raise VistuneError(f"path {relative!r} leaves its folder {root}. Use a path inside that folder.")
    return path


def files_under(root: Path) -> list[Path]:
    """All regular files under `root`, sorted by their relative path."""
    return sorted((p for p in root.rglob("*") if p.is_file()), key=lambda p: p.relative_to(root).as_posix())


def tree_digest(root: Path, exclude: tuple[str, ...] = ()) -> str:
    """Digest of names and contents of all files under `root` (relative names in `exclude` are left out)."""
    leaves = ((p.relative_to(root).as_posix(), p) for p in files_under(root))
    return merkle_root((name, file_digest(p)) for name, p in leaves if name not in exclude)


def path_digest(path: Path) -> str:
    """Digest of a file's bytes, or of the names and contents of all files under a folder. A picture in the folder
    stands there with its size: ImageNet's take 150 GB to read, and a sample names the digest of each that it shows."""
    if not path.is_dir():
        return file_digest(path)
    leaves = ((p.relative_to(path).as_posix(), p) for p in files_under(path))
    return merkle_root((name, str(p.stat().st_size) if is_picture(p) else file_digest(p)) for name, p in leaves)


def is_picture(path: Path) -> bool:
    """Whether the name is that of an image file.

    >>> is_picture(Path("n01440764_18.JPEG")), is_picture(Path("18.xml"))
    (True, False)
    """
    return path.suffix.lower() in PICTURES


def made_once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """`folder`, which `fill` fills unless it is there: by one process at a time, and never seen half filled."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            fill(partial)
            os.sync()
            os.replace(partial, folder)
    return folder


def link_tree(source: Path, target: Path) -> None:
    """Makes `target` a copy of the folder `source`, by hard links where the file system allows, else by copying.
    An existing `target` is replaced, and is never seen half filled. Files are shared: whoever changes one must
    write a new file (see `atomic`)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")
    for leftover in (fresh, old):
        if leftover.exists():
            shutil.rmtree(leftover)
    shutil.copytree(source, fresh, copy_function=link_file)
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.exists():
        os.replace(target, old)
    os.replace(fresh, target)
    shutil.rmtree(old, ignore_errors=True)


def link_file(source: str | Path, target: str | Path) -> None:
    """A hard link where the file system allows, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
