"""Presence, counting, listing and labels: what is there, and how often."""

from collections import Counter
from dataclasses import replace

import pytest

from vistune.adapt import Params
from vistune.adapt.draws import Draws
from vistune.adapt.language import CHINESE, ENGLISH
from vistune.adapt.scene import Scene
from vistune.adapt.tasks import TASKS
from vistune.adapt.vocabulary import Statistics, Vocabulary
from vistune.records import Annotation, Category, Label


def test_presence_is_balanced_and_true(ask, dog_and_cats):
    shown = {"dog", "cat"}
    for key in range(50):
        made, refused = ask("presence", dog_and_cats, params=Params(), key=str(key))
        assert not refused
        assert [c.polarity for c in made] == ["yes", "no"] * 2
        assert [c.kind for c in made] == ["present", "absent"] * 2
        assert {c.slots["name"] for c in made[::2]} == shown
        absent = [c.slots["name"] for c in made[1::2]]
        assert len(set(absent)) == 2
        assert not set(absent) & (shown | {"guide dog", "owl"})  # 猫头鹰 holds 猫
        assert all(c.evidence == ("1", "2", "3", "99") and not c.regions for c in made[1::2])
        by_name = {c.slots["name"]: c for c in made[::2]}
        assert by_name["cat"].evidence == ("2", "3")
        assert [r.box for r in by_name["cat"].regions] == [(120, 5, 160, 45), (120, 55, 160, 95)]


@pytest.mark.parametrize(
    ("shares", "similar"),
    [({"random": 1.0}, 0), ({"random": 1, "similar": 1}, 1), ({"similar": 3.0, "random": 0.0}, 2)],
)
def test_the_share_of_similar_negatives_is_exact(ask, picture, shares, similar):
    animals = tuple(Category(f"animal{chr(97 + n)}", "animal") for n in range(9))
    foods = tuple(Category(f"food{chr(97 + n)}", "food") for n in range(200))
    image = picture(background=False, vocabulary=animals + foods)
    image = replace(image, objects=tuple(Annotation(str(n), animals[n], (0, 0, 9, 9)) for n in range(2)))
    params = Params(negatives=shares)
    same = [
        sum(c.slots["name"].startswith("animal") for c in ask("presence", image, params=params, key=str(key))[0][1::2])
        for key in range(30)
    ]
    # A random negative is drawn from the whole vocabulary, so a few of them are of the same group by chance.
    assert min(same) == similar
    assert sum(same) <= 30 * similar + 10


def test_shares_below_one_pair_hold_over_many_images(ask, picture):
    animals = tuple(Category(f"animal{chr(97 + n)}", "animal") for n in range(9))
    foods = tuple(Category(f"food{chr(97 + n)}", "food") for n in range(400))
    image = picture(background=False, vocabulary=animals + foods)
    image = replace(image, objects=(Annotation("1", animals[0], (0, 0, 9, 9)),))
    params = Params(negatives={"random": 0.75, "similar": 0.25})
    asked = [ask("presence", image, params=params, key=str(key))[0][1].slots["name"] for key in range(400)]
    assert 70 <= sum(name.startswith("animal") for name in asked) <= 140  # 100 and about 6 by chance


def negatives(image, statistics, how, keys=60):
    """Names asked for that are absent."""
    scene = Scene(image, Vocabulary(image.vocabulary, statistics))
    params = Params(negatives={how: 1.0})
    found = Counter()
    for key in range(keys):
        made = list(TASKS["presence"].find(scene, ENGLISH, params, Draws(0, str(key))))
        assert [c.polarity for c in made] == ["yes", "no"] * (len(made) // 2)
        found.update(c.slots["name"] for c in made[1::2])
    return found


def test_popular_and_adversarial_negatives_follow_the_data_set(picture):
    names = tuple(Category(f"thing{a}{b}", "thing") for a in "abcdef" for b in "abcdef")
    image = replace(picture(background=False, vocabulary=names), objects=(Annotation("1", names[0], (0, 0, 9, 9)),))
    # Every image shows ab; the often ones of "b" are seen without "aa", those of "c" with it.
    seen = [["thingab", *[f"thingb{b}" for b in "abcdef"]]] * 30
    seen += [["thingaa", "thingab", *[f"thingc{b}" for b in "abcdef"]]] * 10
    statistics = Statistics.of(seen)
    popular = negatives(image, statistics, "popular")
    assert set(popular) <= {"thingab", *(f"thingb{b}" for b in "abcdef"), "thingca"}
    adversarial = negatives(image, statistics, "adversarial")
    assert set(adversarial) == {"thingab", *(f"thingc{b}" for b in "abcdef")}
    assert min(adversarial.values()) >= 2
    assert len(negatives(image, statistics, "random")) > 25


def test_what_is_seen_together_but_present_is_no_negative(picture, category):
    image = picture(("dog", (0, 0, 9, 9)), ("cat", (20, 0, 30, 9)))
    statistics = Statistics.of([["dog", "cat", "wolf"]] * 5 + [["dog", "cat"]] * 5)
    asked = negatives(image, statistics, "adversarial")
    assert asked["wolf"] > 20
    assert not {"dog", "cat", "guide dog", "owl"} & set(asked)


def test_without_statistics_adversarial_negatives_are_of_the_same_group(picture, category):
    image = picture(("boat", (0, 0, 9, 9)), vocabulary=tuple(map(category, ("boat", "dog", "cat", "apple"))))
    tram = Category("tram", "vehicle")
    image = replace(image, vocabulary=(*image.vocabulary, tram))
    assert set(negatives(image, None, "adversarial")) == {"tram"}
    assert set(negatives(image, None, "popular")) == {"tram", "dog", "cat", "apple"}


def test_presence_needs_an_exhaustive_vocabulary(ask, dog_and_cats):
    assert ask("presence", replace(dog_and_cats, vocabulary=())) == ([], [])
    present_only = tuple(o.category for o in dog_and_cats.objects[:2])
    assert ask("presence", replace(dog_and_cats, vocabulary=present_only)) == ([], [])


def test_presence_never_asks_for_a_background(ask, picture):
    image = picture(("dog", (0, 0, 20, 20)))
    for key in range(20):
        assert all(c.slots["name"] != "light blue" for c in ask("presence", image, key=str(key))[0])


def test_presence_from_verdicts_of_a_federated_data_set(ask, picture, category):
    image = picture(
        ("dog", (0, 0, 20, 20)),
        vocabulary=(),
        complete=("dog",),
        labels=(
            Label("l1", category("cat")),
            Label("l2", category("boat"), False),
            Label("l3", category("owl"), False),  # 猫头鹰 holds 猫
            Label("l4", category("guide dog"), False),
            Label("l5", category("apple"), False),
        ),
    )
    seen = set()
    for key in range(30):
        made, _ = ask("presence", image, params=Params(), key=str(key))
        assert [c.polarity for c in made] == ["yes", "no"] * 2
        seen |= {(c.slots["name"], c.evidence) for c in made}
    assert seen == {("dog", ("1",)), ("cat", ("l1",)), ("boat", ("l2",)), ("apple", ("l5",))}


def test_an_unverified_absence_is_never_asked_for(ask, picture, category):
    federated = picture(("dog", (0, 0, 20, 20)), vocabulary=(), complete=("dog",))
    assert ask("presence", federated) == ([], [])
    assert ask("refer_absent", federated) == ([], [])
    nothing = picture(background=False, labels=(Label("l1", category("cat")),))
    assert ask("presence", nothing) == ([], [])  # no annotation could be named as the evidence


def test_presence_stays_balanced_when_names_are_missing(ask, picture):
    image = picture(("kite", (0, 0, 20, 20)), ("dog", (50, 0, 70, 20)))
    for key in range(20):
        made, _ = ask("presence", image, CHINESE, key=str(key))
        assert [c.polarity for c in made] == ["yes", "no"]
        assert made[0].slots["name"] == "狗"


def test_counting(ask, dog_and_cats):
    made, _ = ask("counting", dog_and_cats)
    cats, dog = made
    assert (cats.slots["plural"], cats.slots["count"], cats.slots["number"], cats.kind) == ("cats", "2", "two", "many")
    assert (cats.evidence, len(cats.regions)) == (("2", "3"), 2)
    assert (dog.slots["count"], dog.slots["number"], dog.kind) == ("1", "one", "one")
    (chinese, _), _ = ask("counting", dog_and_cats, CHINESE)
    assert (chinese.slots["name"], chinese.slots["number"]) == ("猫", "两")


def test_counting_refuses_what_is_not_counted(ask, picture, category):
    box = (0, 0, 20, 20)
    assert ask("counting", picture(("dog", box), ("dog", box), ("dog", box), crowd=("dog",))) == ([], [])
    assert ask("counting", picture(("grapes", box), ("grapes", box), ("bread", box))) == ([], [])
    assert ask("counting", picture(("dog", box), ("dog", box), ("guide dog", box))) == ([], [])
    assert ask("counting", picture(*[("dog", box)] * 21)) == ([], [])
    assert ask("counting", picture(("dog", box), ("dog", box), vocabulary=(category("cat"),))) == ([], [])
    (made,), _ = ask("counting", picture(*[("dog", box)] * 20))
    assert made.slots["count"] == "20"


def test_a_label_that_is_complete_in_this_image_can_be_counted(ask, picture):
    box = (0, 0, 20, 20)
    image = picture(("dog", box), ("dog", box), ("cat", box), ("cat", box), vocabulary=(), complete=("dog",))
    assert [c.slots["name"] for c in ask("counting", image)[0]] == ["dog"]


def test_a_crowd_of_one_class_leaves_the_others_countable(ask, picture):
    box = (0, 0, 20, 20)
    made, _ = ask("counting", picture(("dog", box), ("apple", box), ("apple", box), crowd=("dog",)))
    assert [c.slots["name"] for c in made] == ["apple"]


def test_single_things_are_counted_in_one_image_of_four(ask, picture):
    image = picture(("dog", (0, 0, 20, 20)), ("apple", (50, 0, 70, 20)))
    made = sum(len(ask("counting", image, key=str(key))[0]) for key in range(400))
    assert 70 <= made <= 130


def test_listing_goes_from_left_to_right(ask, dog_and_cats):
    (made,), _ = ask("listing", dog_and_cats)
    assert (made.slots["names"], made.slots["things"]) == ("dog, cat", "a dog and two cats")
    assert [r.annotation_id for r in made.regions] == ["1", "2", "3"]
    (chinese,), _ = ask("listing", dog_and_cats, CHINESE)
    assert chinese.slots["names"] == "狗、猫"


def test_listing_refuses_crowds_and_names_that_are_the_same(ask, picture):
    assert ask("listing", picture(("dog", (0, 0, 9, 9)), ("cat", (9, 9, 20, 20)), crowd=("dog",))) == ([], [])
    ships = picture(("boat", (0, 0, 9, 9)), ("ship", (50, 0, 90, 9)))
    assert ask("listing", ships)[0][0].slots["names"] == "boat, ship"
    assert ask("listing", ships, CHINESE) == ([], [])  # both are 船
    assert ask("listing", picture()) == ([], [])


def test_listing_needs_complete_annotations(ask, picture, category):
    image = picture(("dog", (0, 0, 9, 9)), ("cat", (9, 9, 20, 20)), vocabulary=(category("dog"),))
    assert ask("listing", image) == ([], [])
    assert len(ask("listing", replace(image, complete=("cat",)))[0]) == 1


def test_image_labels_are_open_questions_where_nothing_is_proven_false(ask, picture, category):
    image = picture(
        background=False, vocabulary=(), labels=(Label("l1", category("dog")), Label("l2", category("cat")))
    )
    made, _ = ask("image_label", image)
    assert sorted((c.slots["name"], c.kind, c.evidence, c.choices) for c in made) == [
        ("cat", "open", ("l2",), None),
        ("dog", "open", ("l1",), None),
    ]
    (chinese, _), _ = ask("image_label", image, CHINESE)
    assert chinese.slots["name"] in ("狗", "猫")


def test_image_labels_are_choices_among_denied_ones(ask, picture, category):
    denied = ("boat", "apple", "ship", "kite", "hourglass")
    labels = [Label("l1", category("dog")), *(Label(f"n{n}", category(d), False) for n, d in enumerate(denied))]
    image = picture(background=False, vocabulary=(), labels=tuple(labels))
    kinds = Counter()
    for key in range(100):
        (made,), _ = ask("image_label", image, key=str(key))
        kinds[made.kind] += 1
        if made.choices:
            assert made.choices.options[made.choices.answer] == "dog"
            assert len(made.choices.options) == 4
            assert set(made.choices.options) < {"dog", *denied}
            assert made.evidence[0] == "l1" and len(made.evidence) == 4
    assert 30 <= kinds["choice"] <= 70


def test_a_denied_label_is_no_answer(ask, picture, category):
    image = picture(labels=(Label("l1", category("boat"), False),))
    assert ask("image_label", image) == ([], [])
