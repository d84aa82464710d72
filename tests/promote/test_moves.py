"""The champion, the one before it, the way back, and the log of it all."""

from __future__ import annotations

import pytest

from vistune import promote, tracking
from vistune.errors import VistuneError
from vistune.promote.journal import Journal

pytestmark = pytest.mark.usefixtures("one_upload")


def moves(tmp_path, name) -> list[tuple[str, str, str]]:
    events = Journal(tmp_path / "home/promotions.jsonl").events(name)
    return [(e["event"], e["version"], e["previous"]) for e in events if e["event"] != "register"]


def test_champion_previous_and_rollback(make, go, alias, tmp_path):
    home, name = tmp_path / "home", "chain"
    for weights in ("a", "b", "c"):
        go(make(model=weights), name)
    assert (alias(name, "champion"), alias(name, "previous_champion")) == ("3", "2")
    assert "version 2 is champion again" in promote.rollback(name, home)
    assert (alias(name, "champion"), alias(name, "previous_champion")) == ("2", "1")
    promote.rollback(name, home)
    assert (alias(name, "champion"), alias(name, "previous_champion")) == ("1", "")
    with pytest.raises(VistuneError, match="first champion"):
        promote.rollback(name, home)
    assert moves(tmp_path, name) == [
        ("promote", "1", ""),
        ("promote", "2", "1"),
        ("promote", "3", "2"),
        ("rollback", "2", "3"),
        ("rollback", "1", "2"),
    ]


def test_a_version_that_was_rolled_back_stays_challenger(make, go, alias, tmp_path):
    go(make(model="a"), "held")
    bad = make(model="b")
    go(bad, "held")
    promote.rollback("held", tmp_path / "home")
    out = go(bad, "held")
    assert (out["version"], out["aliases"], alias("held", "champion")) == ("2", ["challenger"], "1")
    assert "rolled back on" in out["reasons"][-1]


def test_rollback_without_champion_is_a_clear_error(make, go, tmp_path):
    with pytest.raises(VistuneError, match="no champion"):
        promote.rollback("nobody", tmp_path)
    go(make("fail"), "never")
    with pytest.raises(VistuneError, match="no champion"):
        promote.rollback("never", tmp_path)


def test_a_champion_that_moved_meanwhile_stays(make, go, alias, monkeypatch):
    """Another machine promotes version 2 while this one uploads version 3."""
    go(make(model="a"), "race")
    go(make("fail", model="b"), "race")
    upload = tracking.log_vlm

    def slow(*args, **kwargs):
        uri = upload(*args, **kwargs)
        tracking.set_alias("race", "champion", "2")
        return uri

    monkeypatch.setattr(tracking, "log_vlm", slow)
    with pytest.raises(VistuneError, match="changed from version 1 to 2"):
        go(make(model="c"), "race")
    assert alias("race", "champion") == "2"
    assert alias("race", "challenger") == "3"


def test_a_kill_between_log_and_move_is_completed(make, go, alias, tmp_path, monkeypatch):
    go(make(model="a"), "killed")
    inputs = make(model="b")
    move = tracking.set_alias

    def die(name, which, version):
        if which == "champion":
            raise KeyboardInterrupt
        move(name, which, version)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracking, "set_alias", die)
        go(inputs, "killed")
    assert alias("killed", "champion") == "1"
    assert go(inputs, "killed")["champion"] == "2"
    assert moves(tmp_path, "killed") == [("promote", "1", ""), ("promote", "2", "1")]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracking, "set_alias", die)
        promote.rollback("killed", tmp_path / "home")
    assert alias("killed", "champion") == "2"
    promote.rollback("killed", tmp_path / "home")
    assert (alias("killed", "champion"), alias("killed", "previous_champion")) == ("1", "")
    assert moves(tmp_path, "killed")[2:] == [("rollback", "1", "2")]


def test_a_log_that_was_cut_or_edited_stops_the_next_promotion(make, go, tmp_path):
    log = tmp_path / "home/promotions.jsonl"
    go(make(model="a"), "cut")
    go(make(model="b"), "cut")
    whole, third = log.read_bytes(), make(model="c")
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 4
    for n in range(1, 4):
        log.write_bytes(b"".join(lines[:n] + lines[n + 1 :]))
        with pytest.raises(
            VistuneError, match="was edited" if n < 3 else "was cut: it lacks the promote of cut version 2"
        ):
            go(third, "cut")
        log.write_bytes(whole)
    log.write_bytes(whole.replace(b'"verdict":"pass"', b'"verdict":"fail"', 1))
    with pytest.raises(VistuneError, match="line 2 does not follow"):
        promote.rollback("cut", tmp_path / "home")
    log.write_bytes(whole + b'{"after":"half a li')
    assert go(third, "cut")["champion"] == "3"
