"""Which names stand for one thing, and what is proven absent."""

from vistune.adapt.draws import Draws
from vistune.adapt.scene import Scene, Vocabulary, confusable
from vistune.records import Category


def scene_of(image):
    return Scene(image, Vocabulary(image.vocabulary))


def labels(annotations):
    return [o.category.label for o in annotations]


def test_confusable_names():
    def pair(a, b):
        assert confusable(b, a) == confusable(a, b)
        return confusable(a, b)

    assert pair(Category("dog"), Category("guide dog"))
    assert pair(Category("House"), Category("houses"))
    assert pair(Category("bell with slash"), Category("bell"))
    assert pair(Category("boat", names={"zh": "船"}), Category("ship", names={"zh": "船"}))
    assert pair(Category("cat", names={"zh": "猫"}), Category("owl", names={"zh": "猫头鹰"}))
    assert not pair(Category("red apple"), Category("green apple"))
    assert not pair(Category("cat"), Category("caterpillar"))
    assert not pair(Category("dog", names={"zh": "狗"}), Category("wolf", names={"zh": "狼"}))
    assert not pair(Category("dog", names={"zh": ""}), Category("wolf", names={"zh": "狼"}))


def test_unique_names(picture):
    box = (0, 0, 20, 20)
    scene = scene_of(picture(("dog", box), ("cat", box), ("cat", box), ("apple", box)))
    assert labels(scene.unique) == ["dog", "apple"]
    assert labels(scene_of(picture(("dog", box), ("guide dog", box), ("apple", box))).unique) == ["apple"]
    assert labels(scene_of(picture(("boat", box), ("ship", box), ("wolf", box))).unique) == ["wolf"]
    assert labels(scene_of(picture(("dog", box), ("dog", box), crowd=("dog",))).unique) == []
    assert labels(scene_of(picture(("dog", (0, 0, 0.01, 20)))).unique) == []


def test_unique_is_proven_only_in_the_vocabulary(picture, category):
    image = picture(("dog", (0, 0, 20, 20)), ("apple", (50, 0, 70, 20)), vocabulary=(category("dog"), category("wolf")))
    assert labels(scene_of(image).unique) == ["dog", "apple"]
    assert labels(scene_of(image).proven_unique) == ["dog"]


def absent(scene, language="en", group="", count=400):
    draws = Draws(0, "test")
    return {c.label for _ in range(count) if (c := scene.absent(language, group, set(), draws))}


def test_absent_names_exclude_all_that_could_be_meant(picture):
    scene = scene_of(picture(("guide dog", (0, 0, 20, 20)), ("ship", (50, 0, 70, 20)), ("cat", (90, 0, 99, 20))))
    assert absent(scene) == {"wolf", "apple", "hourglass", "grapes", "bread", "kite"}
    assert absent(scene, group="animal") == {"wolf"}
    assert absent(scene, "zh") == absent(scene) - {"kite"}
    assert absent(scene, group="vehicle") == set()


def test_a_crowd_is_not_absent(picture):
    assert "dog" not in absent(scene_of(picture(("dog", (0, 0, 20, 20)), crowd=("dog",))))


def test_absence_is_never_taken_from_elsewhere(picture, category):
    image = picture(("dog", (0, 0, 20, 20)), vocabulary=(category("dog"), category("apple")))
    assert absent(scene_of(image)) == {"apple"}
    assert absent(scene_of(picture(("dog", (0, 0, 20, 20)), vocabulary=()))) == set()


def test_nothing_is_asked_twice(picture, category):
    names = ("dog", "apple", "wolf", "bread")
    scene = scene_of(picture(("dog", (0, 0, 20, 20)), vocabulary=tuple(map(category, names))))
    asked, draws = set(), Draws(0, "test")
    while (found := scene.absent("en", "", asked, draws)) is not None:
        assert found.label not in asked
        asked.add(found.label)
    assert asked == {"apple", "wolf", "bread"}


def test_draws_are_even_and_repeatable():
    draws = Draws(3, "key")
    counts = [0] * 7
    for _ in range(7000):
        counts[draws.below(7)] += 1
    assert max(abs(c - 1000) for c in counts) < 120  # four standard deviations
    assert Draws(3, "a").pick(range(9), 9) == Draws(3, "a").pick(range(9), 9)
    assert Draws(3, "a").pick(range(9), 9) != Draws(3, "b").pick(range(9), 9)
    assert sorted(Draws(3, "a").pick(range(9), 20)) == list(range(9))
    assert Draws(3, "a").pick([], 2) == []
    assert Draws(3, "a").pick(range(9), 2) == Draws(3, "a").pick(range(9), 5)[:2]
