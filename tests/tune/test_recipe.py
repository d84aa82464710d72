"""Published recipes become stages; what was not published has to be said."""

import pytest

from vistune.errors import VistuneError
from vistune.models import FAMILIES, family
from vistune.tune import Params
from vistune.tune.launch import with_recipe
from vistune.tune.recipe import published


def test_llava_as_its_authors_trained_it():
    align, instruct = with_recipe(Params(family="llava", preset="llava-1.5-7b")).stages
    assert (align.objective, align.template, align.settings) == ("caption", "plain", {"fit": "crop"})
    assert align.learning_rates == {"connector": 1e-3} and align.samples == 256 and align.epochs == 1
    assert set(instruct.learning_rates) == {"connector", "language", "head"}
    assert instruct.learning_rates["language"] == 2e-5 and instruct.samples == 128 and instruct.max_tokens == 2048
    assert instruct.objective == "instruct" and instruct.warmup == 0.03


@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in ("auto", "small")])
def test_every_published_stage_is_a_stage_or_says_what_is_lacking(name):
    found = family(name)
    for preset in found.presets:
        try:
            stages = published(name, preset, found.preset(preset))
        except VistuneError as error:
            assert "published" in str(error)
            continue
        for stage in stages:
            assert set(stage.learning_rates) <= set(found.roles)
            assert stage.samples > 0 and (stage.steps or stage.epochs) and 0 <= stage.warmup < 1


def test_nothing_published_is_an_error():
    with pytest.raises(VistuneError, match=r"no recipe of small \(tiny\) is published"):
        with_recipe(Params(preset="tiny"))
