"""What a terminal shows, with and without a known total."""

import pytest

from vistune.progress import Progress


@pytest.mark.parametrize(
    ("total", "steps", "shown"),
    [
        (4, 2, "adapt          ██████████·········· 2/4 images · 0 s"),
        (0, 1200, "adapt          1,200 images · 0 s"),  # no bar and no time left where nobody knows how many come
        (0, 0, ""),
    ],
)
def test_the_last_line(total, steps, shown, capsys):
    with Progress("adapt", total, "images") as bar:
        bar.live = True
        if steps:
            bar.step(steps)
    assert capsys.readouterr().err.split("\x1b[2K")[-1].rstrip("\n") == shown


def test_the_time_left_is_told_on_the_way_only_when_it_can_be(capsys):
    for total in (4, 0):
        with Progress("adapt", total) as bar:
            bar.live, bar.last = True, bar.last - 9
            bar.step()
            assert ("left" in capsys.readouterr().err) is bool(total)


def test_a_log_gets_no_line_of_what_was_quick(capsys):
    with Progress("adapt", 3) as bar:
        bar.step(3)
    assert capsys.readouterr().err == ""
