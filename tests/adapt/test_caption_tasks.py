"""Captions: brief, detailed, and told from false ones."""

from dataclasses import replace

import pytest

from vistune.adapt import Params
from vistune.adapt.language import CHINESE, ENGLISH
from vistune.adapt.tasks.captions import informative
from vistune.records import Caption, Label, Phrase


def test_caption_takes_a_written_one_and_names_every_region(ask, dog_and_cats):
    made, refused = ask("caption", dog_and_cats, params=Params())
    (candidate,) = made
    assert not refused
    assert candidate.slots["caption"] in ("a dog and two cats", "three pets")
    assert candidate.kind == "written"
    assert [(r.label, r.annotation_id) for r in candidate.regions] == [
        ("dog", "1"),
        ("cat", "2"),
        ("cat", "3"),
        ("light blue", "99"),
    ]
    assert candidate.evidence[0] in ("c1", "c2")
    assert candidate.evidence[1:] == ("1", "2", "3", "99")


def test_caption_is_composed_where_none_is_written(ask, dog_and_cats):
    (chinese,), _ = ask("caption", dog_and_cats, CHINESE)
    assert (chinese.kind, chinese.slots["things"]) == ("composed", "一个狗和两个猫")
    (english,), _ = ask("caption", replace(dog_and_cats, captions=()))
    assert english.slots["things"] == "a dog and two cats"
    assert ask("caption", replace(dog_and_cats, captions=(), objects=())) == ([], [])


def test_a_composed_caption_names_the_largest_of_many_things(ask, picture, category):
    labels = ["dog", "guide dog", "cat", "owl", "wolf", "apple", "hourglass", "boat", "ship", "grapes", "bread", "kite"]
    extra = replace(category("cat"), label="tiger")
    image = picture(*[(label, (10 * n, 0, 10 * n + 9, 20 + n)) for n, label in enumerate(labels)])
    small = replace(image.objects[0], id="50", category=extra, box=(190, 0, 191, 1))
    (made,), _ = ask("caption", replace(image, objects=(*image.objects, small)))
    assert made.slots["things"].count(",") == 10  # twelve, the last with "and"
    assert "tiger" not in made.slots["things"]
    assert len(made.regions) == 14


def test_an_empty_caption_is_refused(ask, picture):
    image = picture(("dog", (0, 0, 20, 20)), captions=(Caption("c1", "  "),))
    (made,), (refused,) = ask("caption", image)
    assert made.kind == "composed"
    assert refused.reason == "caption_empty" and "c1" in refused.detail


def test_the_detailed_caption_starts_with_the_longest_and_adds_what_is_new(ask, picture):
    texts = ("a dog", "a dog is chasing two cats", "tall trees stand behind them", "sunny weather without clouds")
    image = picture(("dog", (0, 0, 20, 20)), captions=tuple(Caption(f"c{n}", t) for n, t in enumerate(texts)))
    (made,), refused = ask("caption_detailed", image)
    assert not refused
    assert made.slots["caption"] == (
        "A dog is chasing two cats. Tall trees stand behind them. Sunny weather without clouds."
    )
    assert (made.kind, made.evidence) == ("captions", ("c1", "c2", "c3"))


def test_captions_that_repeat_each_other_are_not_detailed(ask, picture):
    texts = ("a dog and two cats", "two cats and a dog", "a dog with two cats", "the dog and the two cats")
    image = picture(("dog", (0, 0, 20, 20)), captions=tuple(Caption(f"c{n}", t) for n, t in enumerate(texts)))
    assert ask("caption_detailed", image) == ([], [])


def test_dense_descriptions_make_a_detailed_caption_and_few_do_not(ask, picture):
    box = (0, 0, 20, 20)
    words = ("brown dog", "green grass", "red ball", "white fence", "old house", "blue sky")
    dense = tuple(Phrase(f"p{n}", text, (box,), "description") for n, text in enumerate(words))
    (made,), _ = ask("caption_detailed", picture(phrases=dense))
    assert made.kind == "descriptions"
    assert made.slots["caption"] == "Brown dog. Green grass. Red ball. White fence. Old house. Blue sky."
    assert made.evidence == ("p0", "p1", "p2", "p3", "p4", "p5")
    assert ask("caption_detailed", picture(phrases=dense[:5])) == ([], [])
    assert ask("caption_detailed", picture(captions=(Caption("c1", "a dog"), Caption("c2", "big tree")))) == ([], [])


def test_informative_in_chinese_counts_characters():
    assert informative(["一只狗", "一只狗。", "蓝天白云"], CHINESE) == [2, 0]
    assert informative(["", "..."], ENGLISH) == []


def test_false_captions_name_what_is_proven_absent(ask, dog_and_cats):
    for key in range(40):
        made, _ = ask("caption_choice", dog_and_cats, key=str(key))
        assert [c.evidence[0] for c in made] == ["c1"]  # "three pets" names nothing
        choices = made[0].choices
        assert choices.options[choices.answer] == "a dog and two cats"
        assert len(set(choices.options)) == 4
        for n, option in enumerate(choices.options):
            if n != choices.answer:
                dog, cats = option.removeprefix("a").removeprefix("n").strip().split(" and two ")
                assert (dog == "dog") != (cats == "cats")
                assert {dog, cats} - {"dog", "cats"} <= {
                    *("wolf", "apple", "hourglass", "boat", "ship", "kite"),
                    *("wolves", "apples", "hourglasses", "boats", "ships", "kites"),
                }
        assert set(made[0].evidence) == {"c1", "1", "2", "3", "99"}


def test_articles_plurals_and_capitals_of_a_swapped_name(ask, picture, category):
    image = picture(
        ("dog", (0, 0, 20, 20)),
        captions=(Caption("c1", "A dog. Dogs bark; that dog barks too, but no hotdog."),),
        vocabulary=(category("dog"), category("apple")),
    )
    assert ask("caption_choice", image) == ([], [])  # "no": what is denied may be true of something absent
    image = replace(image, captions=(Caption("c1", "A dog. Dogs bark; that dog barks too. Dogsled"),))
    (made,), _ = ask("caption_choice", image)
    assert set(made.choices.options) == {
        "A dog. Dogs bark; that dog barks too. Dogsled",
        "An apple. Apples bark; that apple barks too. Dogsled",
    }


def test_a_longer_name_does_not_mention_the_shorter_one(ask, picture):
    image = picture(("dog", (0, 0, 20, 20)), captions=(Caption("c1", "a guide dog at work"),))
    assert ask("caption_choice", image) == ([], [])  # only a dog is annotated


@pytest.mark.parametrize("vocabulary", [(), ("dog", "guide dog"), ("dog", "grapes")])
def test_without_a_provable_false_caption_there_is_no_choice(ask, picture, category, vocabulary):
    image = picture(
        ("dog", (0, 0, 20, 20)),
        captions=(Caption("c1", "a dog"),),
        vocabulary=tuple(map(category, vocabulary)),
    )
    assert ask("caption_choice", image) == ([], [])


def test_a_verdict_about_the_image_proves_absence(ask, picture, category):
    image = picture(
        ("dog", (0, 0, 20, 20)),
        captions=(Caption("c1", "a dog"),),
        vocabulary=(category("dog"),),
        labels=(Label("l7", category("boat"), False),),
    )
    (made,), _ = ask("caption_choice", image)
    assert set(made.choices.options) == {"a dog", "a boat"}
    assert made.evidence == ("c1", "l7")


def test_chinese_captions_swap_within_a_group_since_measure_words_differ(ask, picture, category):
    image = picture(
        ("dog", (0, 0, 20, 20)),
        captions=(Caption("c1", "一只狗在草地上", "zh"),),
        vocabulary=tuple(map(category, ("dog", "wolf", "apple", "boat"))),
    )
    for key in range(20):
        (made,), _ = ask("caption_choice", image, CHINESE, key=str(key))
        assert set(made.choices.options) == {"一只狗在草地上", "一只狼在草地上"}
