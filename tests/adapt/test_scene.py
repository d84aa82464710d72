"""Which names stand for one thing, and what is proven absent."""

from vistune.adapt.draws import Draws
from vistune.adapt.scene import Scene
from vistune.adapt.vocabulary import Vocabulary
from vistune.records import Caption, Label, Question


def scene_of(image):
    return Scene(image, Vocabulary(image.vocabulary))


def labels(annotations):
    return [o.category.label for o in annotations]


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


def absent(scene, language="en", near=None, count=400):
    """Labels of the absent categories drawn: similar to `near`, or any."""
    draws, found = Draws(0, "test"), set()
    for _ in range(count):
        drawn = scene.absent(language, set(), draws, "similar" if near else "random", near)
        if drawn:
            assert drawn.evidence
            found.add(drawn.category.label)
    return found


def test_absent_names_exclude_all_that_could_be_meant(picture, category):
    scene = scene_of(picture(("guide dog", (0, 0, 20, 20)), ("ship", (50, 0, 70, 20)), ("cat", (90, 0, 99, 20))))
    assert absent(scene) == {"wolf", "apple", "hourglass", "grapes", "bread", "kite"}
    assert absent(scene, near=category("cat")) == {"wolf"}
    assert absent(scene, "zh") == absent(scene) - {"kite"}
    assert absent(scene, near=category("ship")) == absent(scene)  # no vehicle is absent


def test_a_crowd_is_not_absent(picture):
    assert "dog" not in absent(scene_of(picture(("dog", (0, 0, 20, 20)), crowd=("dog",))))


def test_absence_is_never_taken_from_elsewhere(picture, category):
    image = picture(("dog", (0, 0, 20, 20)), vocabulary=(category("dog"), category("apple")))
    assert absent(scene_of(image)) == {"apple"}
    assert absent(scene_of(picture(("dog", (0, 0, 20, 20)), vocabulary=()))) == set()
    assert absent(scene_of(picture(background=False))) == set()  # nothing is the evidence


def test_what_a_caption_speaks_of_is_not_absent(picture, category):
    captions = (Caption("c1", "Two wolves and a boat"), Caption("c2", "一个苹果", "zh"), Caption("c3", "kite", "fr"))
    scene = scene_of(picture(("dog", (0, 0, 20, 20)), captions=captions))
    assert absent(scene) == {"cat", "owl", "hourglass", "grapes", "bread", "kite"}  # a ship is 船 as well


def test_verdicts_about_the_image(picture, category):
    labels = tuple(
        Label(f"l{n}", category(name), present)
        for n, (name, present) in enumerate([("cat", True), ("owl", False), ("guide dog", False), ("boat", False)])
    )
    scene = scene_of(picture(("dog", (0, 0, 20, 20)), vocabulary=(), labels=labels))
    assert [v.category.label for v in scene.denied] == ["boat"]  # an owl is 猫头鹰, which holds 猫
    found = scene.absent("en", set(), Draws(0, "x"))
    assert (found.category.label, found.evidence) == ("boat", ("l3",))
    shown = scene_of(picture(("dog", (0, 0, 20, 20)), labels=labels))
    assert not {"cat", "owl"} & absent(shown)  # a verdict says that a cat is there


def test_what_is_complete_in_this_image(picture, category):
    image = picture(("dog", (0, 0, 20, 20)), ("apple", (50, 0, 70, 20)), vocabulary=(), complete=("apple",))
    scene = scene_of(image)
    assert (scene.exhaustive("apple"), scene.exhaustive("dog")) == (True, False)
    assert labels(scene.proven_unique) == ["apple"]


def test_nothing_is_asked_twice(picture, category):
    names = ("dog", "apple", "wolf", "bread")
    scene = scene_of(picture(("dog", (0, 0, 20, 20)), vocabulary=tuple(map(category, names))))
    asked, draws, found = set(), Draws(0, "test"), []
    while (drawn := scene.absent("en", asked, draws)) is not None:
        found.append(drawn.category.label)
    assert sorted(found) == ["apple", "bread", "wolf"]
    assert asked == set(found)


def test_questions_are_told_apart_by_language_text_and_choices(picture):
    image = picture(
        questions=(
            Question("q2", " Which?", "a", (), ("a", "b")),
            Question("q1", "which?", "a", (), ("a", "b")),
            Question("q3", "which?", "a", (), ("a", "c")),
            Question("q4", "哪个？", "甲", (), language="zh"),
            Question("q5", "", "a", ()),
        )
    )
    usable, faults = scene_of(image).questions("en")
    assert [q.id for q in usable] == ["q1", "q3"]
    assert [reason for reason, _ in faults] == ["question_duplicate", "question_empty"]
    assert [q.id for q in scene_of(image).questions("zh")[0]] == ["q4"]


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


def test_order_is_random_whole_and_lazy():
    draws = Draws(3, "a")
    assert sorted(draws.order(range(9))) == list(range(9))
    first = {next(Draws(0, str(n)).order("abc")) for n in range(40)}
    assert first == set("abc")
    assert list(Draws(3, "a").order(range(9)))[:4] == Draws(3, "a").pick(range(9), 4)
    assert list(draws.order([])) == []


def test_streams_of_different_keys_differ():
    keys = [("a", "b"), ("ab",), ("a", "b", "c"), ("b", "a")]
    streams = {tuple(Draws(0, *key).below(1000) for _ in range(1)) for key in keys}
    assert len(streams) == len(keys)
    long = Draws(0, "k")
    assert len({long.below(1 << 40) for _ in range(200)}) == 200  # many hashes
