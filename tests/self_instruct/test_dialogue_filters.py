import pytest

from vistune.self_instruct.facts import Facts
from vistune.self_instruct.filters import RULES, SEQUENCE_RULES, Pool, rouge_l
from vistune.self_instruct.grounding import Turn

LONG = "The cat is on the left side of the picture and the dog is on the right side of it"


@pytest.fixture
def facts(make):
    """A cat top left, a dog bottom right, two red apples in the middle, on light blue."""
    boxes = [(10, 10, 70, 70), (240, 160, 310, 230), (120, 100, 150, 130), (170, 100, 200, 130)]
    return Facts(make(1, list(zip(("cat", "dog", "red apple", "red apple"), boxes, strict=True))))


# rule: (kind, question, answer) that it refuses, and the like that it lets pass.
CASES = {
    "special_token": [
        (("conversation", "What is here?", "A cat.<|im_end|>"), ("conversation", "What is here?", "A cat < a dog.")),
        (("conversation", "<image> What is here?", "A cat."), ("conversation", "Image: what is here?", "A cat.")),
        (("detail", "Describe it.", "<s> " + LONG + ".</s>"), ("detail", "Describe it.", LONG + ".")),
    ],
    "meta_leak": [
        (
            ("conversation", "What is here?", "The caption speaks of a cat."),
            ("conversation", "What is here?", "A cat."),
        ),
        (("conversation", "What is mentioned?", "A cat."), ("conversation", "What is meant?", "A cat.")),
        (
            ("conversation", "What is here?", "Given the provided information, a cat."),
            ("conversation", "What is here?", "Information is scarce, but there is a cat."),
        ),
        (("conversation", "Who are you?", "As an AI I see a cat."), ("conversation", "Who are you?", "I see a cat.")),
        (("conversation", "Where?", "The bounding box is on the left."), ("conversation", "Where?", "A box is there.")),
    ],
    "refusal": [
        (
            ("conversation", "What is here?", "I'm sorry, I am unable to help."),
            ("conversation", "What?", "A sorry cat."),
        ),
        (
            ("conversation", "What is here?", "I cannot see the image."),
            ("conversation", "What?", "I cannot see a fish."),
        ),
    ],
    "hedge": [
        (
            ("conversation", "Is it calm?", "It is not possible to determine that."),
            ("conversation", "Is it calm?", "It is possible that the cat is calm."),
        ),
        (
            ("reasoning", "Why so?", "It is unclear why the cat sits."),
            ("reasoning", "Why so?", "It is clear to see why."),
        ),
    ],
    "coordinates": [
        (
            ("conversation", "Where is the cat?", "At [0.1, 0.2, 0.3, 0.4]."),
            ("conversation", "Where?", "[Cat, dog] left."),
        ),
        (
            ("conversation", "Where is the cat?", "Its left edge is at 0.312."),
            ("conversation", "How old?", "It is 3.50 high."),
        ),
        (("conversation", "Where is the cat?", "At (12, 40)."), ("conversation", "Where?", "There (on the left).")),
    ],
    "language": [
        (("conversation", "图中有什么?", "一只猫。"), ("conversation", "What café is this?", "A cat in a café.")),
    ],
    "length": [
        (("detail", "Describe the picture.", "A cat."), ("detail", "Describe the picture.", LONG + ".")),
        (("conversation", "What?", "A cat."), ("conversation", "What now?", "A cat.")),
        (("negative", "Is there a key?", "No key."), ("negative", "Is there a key?", "There is no key.")),
        (("conversation", "What is here?", "cat " * 90 + "."), ("conversation", "What is here?", "A cat " * 3 + ".")),
    ],
    "truncated": [
        (("detail", "Describe it now.", LONG), ("detail", "Describe it now.", LONG + ".")),
        (("conversation", "What is here?", 'A "cat.'), ("conversation", "What is here?", 'A "cat".')),
        (("conversation", "What is here?", "A cat (left."), ("conversation", "What is here?", "A cat (left).")),
        (("detail", "Describe it now.", LONG + "..."), ("detail", "Describe it now.", LONG + "!")),
    ],
    "repetition": [
        (
            ("detail", "Describe it now.", "The cat is here. The cat is here."),
            ("detail", "Describe it now.", LONG + "."),
        ),
        (
            ("detail", "Describe it now.", "I see the cat and " * 6 + "a dog."),
            ("detail", "Describe it now.", "I see the cat on the left and a dog, which is bigger, far from it."),
        ),
    ],
    "echo": [
        (
            ("conversation", "What is the cat on the left like?", "What is the cat on the left like?"),
            ("conversation", "What is the cat on the left like?", "The cat on the left is small."),
        ),
    ],
    "leaked_answer": [
        (
            ("conversation", "Where is the cat on the left?", "On the left."),
            ("conversation", "Where is the cat?", "On the left."),
        ),
        (("conversation", "Is the cat here?", "The cat."), ("conversation", "Is the cat here?", "Yes.")),
    ],
    "held_out_task": [
        (("conversation", "Is there a cat or an owl?", "A cat."), ("conversation", "Is there a cat?", "Yes or so.")),
        (
            ("conversation", "Which is in the picture, an owl or a cat?", "A cat."),
            ("conversation", "Which animals are in the picture?", "A cat and a dog."),
        ),
        (
            ("reasoning", "Which of these two is here?", "It must be the cat."),
            ("reasoning", "Which one is here?", "It is the cat."),
        ),
    ],
    "ungrounded": [
        (("conversation", "What is here?", "A cat and an owl."), ("conversation", "What is here?", "A cat, no owl.")),
        (
            ("conversation", "What does the owl do?", "It sleeps."),
            ("conversation", "What does the cat do?", "It sleeps."),
        ),
        (
            ("reasoning", "Why is that so?", "The owl on the left is tired."),
            ("reasoning", "Why is that so?", "The cat might be waiting for an owl."),
        ),
        # "green apple" shares its head with what is there, so that its absence is no sure thing
        (("conversation", "Is there a green apple?", "No."), ("conversation", "Is there an owl?", "No.")),
    ],
    "contradicted": [
        (
            ("conversation", "How many red apples are there?", "Three red apples."),
            ("conversation", "How many red apples are there?", "Two red apples."),
        ),
        (
            ("conversation", "How many red apples are there?", "There is one red apple."),
            ("conversation", "How many red apples are there?", "One red apple is left of the other."),
        ),
        (("conversation", "Is there a cat?", "No."), ("conversation", "Is there a cat?", "Yes.")),
        (("conversation", "Do you see an owl in the picture?", "Yes."), ("conversation", "Do you see an owl?", "No.")),
        (
            ("conversation", "Is there a cat on the right?", "There is no cat."),
            ("conversation", "Is there a cat on the right?", "No, it is on the left."),
        ),
        (
            ("conversation", "Where is it?", "The cat is on the right."),
            ("conversation", "Where is it?", "The cat is on the left."),
        ),
        (
            ("conversation", "Where is it?", "The dog is at the top."),
            ("conversation", "Where is it?", "The dog is at the bottom."),
        ),
        (
            ("conversation", "Where is it?", "The dog is to the left of the cat."),
            ("conversation", "Where is it?", "The dog is to the right of the cat."),
        ),
        (
            ("conversation", "Where is it?", "The cat is below the dog."),
            ("conversation", "Where is it?", "The cat is above the dog."),
        ),
        (
            ("conversation", "Which color?", "The background is pink."),
            ("conversation", "Which color?", "The background is blue."),
        ),
        (
            ("detail", "Describe it now.", "There are a cat and a dog on a grey background."),
            ("detail", "Describe it now.", "There are a cat and a dog on a pale blue background."),
        ),
    ],
    "unproven_negative": [
        (
            ("negative", "What does the cat eat?", "It eats nothing here."),
            ("negative", "What does the owl eat?", "There is no owl here."),
        ),
        (
            ("negative", "Is the cat on the left?", "No, it is above."),
            ("negative", "Is the cat on the right?", "No, it is left."),
        ),
        (
            ("negative", "Why are there two red apples?", "That is not so here."),
            ("negative", "Why are there three red apples?", "That is not so here."),
        ),
        (
            ("negative", "Is the background blue?", "No, not at all."),
            ("negative", "Is the background red?", "No, not at all."),
        ),
        (
            ("negative", "Why is the cat green?", "The cat is not green."),
            ("negative", "Why is the cat below the dog?", "The cat is not below the dog."),
        ),
    ],
}


def test_every_rule_has_cases():
    assert set(CASES) == set(RULES)


@pytest.mark.parametrize("rule, bad, good", [(rule, *case) for rule, cases in CASES.items() for case in cases])
def test_rule(facts, rule, bad, good):
    assert RULES[rule](Turn(facts, *bad))
    assert RULES[rule](Turn(facts, *good)) == ""


@pytest.mark.parametrize("rule, bad", [(rule, case[0]) for rule, cases in CASES.items() for case in cases])
def test_the_pool_gives_a_reason_and_a_sentence(facts, rule, bad):
    ((name, why),) = Pool(facts).filter(bad[0], [bad[1:]])
    assert name in RULES and why


def test_near_duplicates_are_per_image_and_respect_what_is_named(facts):
    pool = Pool(facts)
    pairs = [
        ("How many red apples are there?", "Two."),
        ("How many cats are there?", "One."),  # alike word for word, but about something else
        ("How many red apples are in there?", "Two."),
    ]
    assert [rule for rule, _ in pool.filter("conversation", pairs)] == ["", "", "near_duplicate"]
    assert (
        pool.filter("reasoning", [("How many red apples are there, then?", "There must be two.")])[0][0]
        == "near_duplicate"
    )
    assert Pool(facts).filter("conversation", pairs[2:]) == [("", "")]  # another image asks again


def test_a_question_that_points_to_a_refused_turn_goes_with_it(facts):
    pairs = [
        ("What is the smallest thing?", "The owl."),
        ("And where is it?", "On the left."),
        ("Is the cat on the left?", "Yes."),
        ("Is it at the top as well?", "Yes."),
    ]
    rules = [rule for rule, _ in Pool(facts).filter("conversation", pairs)]
    assert rules == ["ungrounded", "dangling", "", ""]


def test_hits_are_counted_once(facts):
    """A turn that breaks several rules has one reason: the first in the table."""
    pair = ("Which is here, a cat or an owl?", "As an AI I'm sorry, <image> I cannot see the image")
    assert [rule for rule, _ in Pool(facts).filter("conversation", [pair])] == ["special_token"]
    assert not set(RULES) & set(SEQUENCE_RULES)


def test_rouge_l_of_known_pairs():
    """Recomputed by hand: LCS over both lengths."""
    assert rouge_l([*"abcd"], [*"aecd"]) == 0.75
    assert rouge_l([*"abcd"], [*"cdea"]) == 0.5
    assert rouge_l([*"abcdef"], [*"ace"]) == 2 * 3 / 9
    assert rouge_l([], ["a"]) == 0.0
