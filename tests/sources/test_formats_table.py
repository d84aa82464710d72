"""The table of formats is complete, and `vistune sources --formats` prints all of it."""

import inspect

import pytest

from vistune.commands import print_formats
from vistune.sources import FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_what_it_reads(name: str) -> None:
    format = FORMATS[name]
    assert format.what and format.fields
    assert list(inspect.signature(format.read).parameters) == ["root", "file", "listing"]
    assert format.annotations or not (format.needs or format.word)


def test_the_printed_table_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_formats()
    printed = "".join(capsys.readouterr().out.split())
    assert all(name in printed for name in FORMATS)
    assert "…" not in printed and "conversations[from," in printed and "annotations[bbox]," in printed
