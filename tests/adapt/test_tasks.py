"""What each task asks about hand-made images, and what it refuses."""

from dataclasses import replace

import pytest

from vistune.adapt import Params, PerImage
from vistune.adapt.draws import Draws
from vistune.adapt.language import CHINESE, ENGLISH
from vistune.adapt.scene import Scene, Vocabulary
from vistune.adapt.tasks import TASKS, Candidate, Refused
from vistune.records import Annotation, Caption, Category, Question

PLENTY = Params(per_image=PerImage(**dict.fromkeys(TASKS, 20)))


@pytest.fixture
def ask():
    """Candidates and refusals of one task about an image."""

    def ask(task, image, language=ENGLISH, params=PLENTY, key="test"):
        scene = Scene(image, Vocabulary(image.vocabulary))
        found = list(TASKS[task](scene, language, params, Draws(0, key)))
        return [f for f in found if isinstance(f, Candidate)], [f for f in found if isinstance(f, Refused)]

    return ask


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


def test_an_empty_caption_is_refused(ask, picture):
    image = picture(("dog", (0, 0, 20, 20)), captions=(Caption("c1", "  "),))
    (made,), (refused,) = ask("caption", image)
    assert made.kind == "composed"
    assert refused.reason == "caption_empty" and "c1" in refused.detail


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


@pytest.mark.parametrize(("share", "hard"), [(0.0, 0), (0.5, 1), (1.0, 2)])
def test_the_share_of_hard_negatives_is_exact(ask, picture, share, hard):
    animals = tuple(Category(f"animal{chr(97 + n)}", "animal") for n in range(9))
    foods = tuple(Category(f"food{chr(97 + n)}", "food") for n in range(200))
    image = picture(background=False, vocabulary=animals + foods)
    image = replace(image, objects=tuple(Annotation(str(n), animals[n], (0, 0, 9, 9)) for n in range(2)))
    same = [
        sum(c.slots["name"].startswith("animal") for c in ask("presence", image, params=params, key=str(key))[0][1::2])
        for params in [Params(hard_negatives=share)]
        for key in range(30)
    ]
    # An easy negative is drawn from the whole vocabulary, so a few of them are of the same group by chance.
    assert min(same) == hard
    assert sum(same) <= 30 * hard + 10


def test_presence_needs_an_exhaustive_vocabulary(ask, dog_and_cats):
    assert ask("presence", replace(dog_and_cats, vocabulary=())) == ([], [])
    present_only = tuple(o.category for o in dog_and_cats.objects[:2])
    assert ask("presence", replace(dog_and_cats, vocabulary=present_only)) == ([], [])


def test_presence_never_asks_for_a_background(ask, picture):
    image = picture(("dog", (0, 0, 20, 20)))
    for key in range(20):
        assert all(c.slots["name"] != "light blue" for c in ask("presence", image, key=str(key))[0])


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


def test_a_crowd_of_one_class_leaves_the_others_countable(ask, picture):
    box = (0, 0, 20, 20)
    made, _ = ask("counting", picture(("dog", box), ("apple", box), ("apple", box), crowd=("dog",)))
    assert [c.slots["name"] for c in made] == ["apple"]


def test_single_things_are_counted_in_one_image_of_four(ask, picture):
    image = picture(("dog", (0, 0, 20, 20)), ("apple", (50, 0, 70, 20)))
    made = sum(len(ask("counting", image, key=str(key))[0]) for key in range(400))
    assert 70 <= made <= 130


def test_name_region_and_locate_give_the_box(ask, dog_and_cats):
    for task in ("name_region", "locate"):
        (dog,), _ = ask(task, dog_and_cats)  # there are two cats
        assert (dog.slots["name"], dog.slots["box"]) == ("dog", "[50, 200, 300, 799]")
        assert dog.regions[0].box == (10, 20, 60, 80)
        assert dog.evidence == ("1",)


def test_name_region_refuses_a_box_shared_by_two_things(ask, picture):
    image = picture(("dog", (0, 0, 50, 50)), ("hourglass", (0, 0, 50, 48)), ("apple", (100, 0, 150, 50)))
    assert [c.slots["name"] for c in ask("name_region", image)[0]] == ["apple"]
    assert {c.slots["name"] for c in ask("locate", image)[0]} == {"dog", "hourglass", "apple"}


def test_locate_needs_an_exhaustive_class(ask, picture, category):
    image = picture(("dog", (0, 0, 50, 50)), ("apple", (100, 0, 150, 50)), vocabulary=(category("dog"),))
    assert [c.slots["name"] for c in ask("locate", image)[0]] == ["dog"]
    assert {c.slots["name"] for c in ask("name_region", image)[0]} == {"dog", "apple"}


def test_relative_position_is_right_either_way_round(ask, picture):
    image = picture(("dog", (10, 20, 60, 80)), ("apple", (120, 30, 160, 70)))
    seen = set()
    for key in range(20):
        (made,), _ = ask("relative_position", image, key=str(key))
        seen.add((made.slots["name"], made.kind, made.slots["other"], made.evidence))
    assert seen == {("dog", "left", "apple", ("1", "2")), ("apple", "right", "dog", ("2", "1"))}


def test_relative_position_refuses_what_is_unclear(ask, picture, dog_and_cats):
    assert ask("relative_position", dog_and_cats) == ([], [])  # two cats
    near = picture(("dog", (10, 20, 60, 80)), ("apple", (62, 30, 90, 70)))
    diagonal = picture(("dog", (0, 0, 40, 40)), ("apple", (100, 60, 140, 100)))
    over = picture(("dog", (0, 0, 100, 90)), ("apple", (20, 20, 40, 40)))
    for image in (near, diagonal, over):
        assert ask("relative_position", image) == ([], [])


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


def test_vqa(ask, dog_and_cats):
    made, _ = ask("vqa", dog_and_cats)
    found = {c.slots["question"]: (c.slots["answer"], c.kind, c.polarity, c.evidence) for c in made}
    assert found == {
        "What color is the dog?": ("brown", "short", "", ("q1",)),
        "Is it outside?": ("no", "short", "no", ("q2",)),
    }
    assert ask("vqa", dog_and_cats, CHINESE) == ([], [])


def test_vqa_refuses_empty_and_repeated_questions_and_knows_long_answers(ask, picture):
    image = picture(
        questions=(
            Question("q1", "Why?", "because the dog chased all of the cats", ()),
            Question("q2", "why? ", "no idea", ()),
            Question("q3", " ", "yes", ()),
            Question("q4", "Where?", " ", ()),
            Question("q5", "这是什么？", "一只狗", (), language="zh"),
        )
    )
    (made,), refused = ask("vqa", image)
    assert (made.slots["question"], made.kind) == ("Why?", "long")
    assert [(r.reason, r.detail.split()[1]) for r in refused] == [
        ("question_duplicate", "q2"),
        ("question_empty", "q3"),
        ("question_empty", "q4"),
    ]
    (chinese,), _ = ask("vqa", image, CHINESE)
    assert chinese.slots == {"question": "这是什么？", "answer": "一只狗"}


@pytest.mark.parametrize("task", ["caption", "presence", "counting", "name_region", "locate", "listing"])
def test_a_thing_without_a_name_in_the_language_is_refused(ask, picture, task):
    image = picture(("kite", (0, 0, 20, 20)), ("kite" if task == "counting" else "dog", (50, 0, 70, 20)))
    _, refused = ask(task, image, CHINESE)
    assert [r.reason for r in refused] == ["name_missing"]
    assert refused[0].detail == "'kite' has no name in zh."


def test_presence_stays_balanced_when_names_are_missing(ask, picture):
    image = picture(("kite", (0, 0, 20, 20)), ("dog", (50, 0, 70, 20)))
    for key in range(20):
        made, _ = ask("presence", image, CHINESE, key=str(key))
        assert [c.polarity for c in made] == ["yes", "no"]
        assert made[0].slots["name"] == "狗"


@pytest.mark.parametrize("task", TASKS)
def test_zero_leaves_a_task_out_and_limits_hold(ask, dog_and_cats, task):
    none = Params(per_image=PerImage(**{task: 0}))
    assert ask(task, dog_and_cats, params=none) == ([], [])
    assert ask(task, replace(dog_and_cats, captions=()), params=none) == ([], [])
    one = Params(per_image=PerImage(**{task: 1}))
    assert len(ask(task, dog_and_cats, params=one)[0]) <= 1


def test_the_order_of_annotations_does_not_matter(ask, dog_and_cats):
    turned = replace(
        dog_and_cats,
        objects=dog_and_cats.objects[::-1],
        captions=dog_and_cats.captions[::-1],
        questions=dog_and_cats.questions[::-1],
        vocabulary=dog_and_cats.vocabulary[::-1],
    )
    for task in TASKS:
        assert ask(task, turned, params=Params()) == ask(task, dog_and_cats, params=Params())
