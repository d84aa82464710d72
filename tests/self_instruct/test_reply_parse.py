import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.self_instruct.parse import MAX_TURNS, Unparsable, parse

PAIRS = [("What is it?", "A cat."), ("Where?", "On the left.")]
TURNS = {"turns": [{"question": q, "answer": a} for q, a in PAIRS]}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TURNS),
        json.dumps(TURNS["turns"]),
        json.dumps(TURNS, indent=2) + "\n\n",
        f"```json\n{json.dumps(TURNS)}\n```",
        f"```\n{json.dumps(TURNS)}\n```",
        f"Here you are:\n```json\n{json.dumps(TURNS, indent=1)}\n```\nAnything else?",
        f"Sure! {json.dumps(TURNS)} Done.",
        "Question:\nWhat is it?\n===\nAnswer:\nA cat.\n===\nQuestion: Where?\n===\nAnswer: On the left.\n===\n",
        "question: What is it? === answer: A cat. === question: Where? === answer: On the left.",
    ],
)
def test_accepted_forms(text):
    assert parse(text) == PAIRS


def test_one_pair_needs_no_list():
    assert parse('{"question": " Q? ", "answer": "A."}') == [("Q?", "A.")]


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("I cannot help.", "not JSON"),
        ('{"turns": [{"question": "Q?", "answer": "A', "not JSON"),
        ('{"turns": []}', "no question"),
        ('{"turns": [{"question": "Q?"}]}', "answer is NoneType"),
        ('{"turns": [{"question": "Q?", "answer": 5}]}', "answer is int"),
        ('{"turns": [["Q?", "A."]]}', "turn is list"),
        ('{"turns": [{"question": "", "answer": "A."}]}', "empty"),
        ('{"dialogue": "Q? A."}', "question is NoneType"),
        ("5", "turn is int"),
        ("Question: Q?", "alternate"),
        ("Question: Q?\n===\nQuestion: R?\n===\nAnswer: A.", "alternate"),
        ("Question: Q?\n===\nA.", "no Question: or Answer:"),
        (json.dumps({"turns": TURNS["turns"] * MAX_TURNS}), "more than"),
        ("[" * 5000, "not JSON"),
    ],
)
def test_refused_forms(text, why):
    with pytest.raises(Unparsable, match=why):
        parse(text)


@given(st.text(max_size=200))
def test_any_text_gives_pairs_or_unparsable(text):
    try:
        pairs = parse(text)
    except Unparsable as error:
        assert str(error)
    else:
        assert pairs and all(q.strip() and a.strip() for q, a in pairs)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["turns", "question", "answer", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(json_values, st.sampled_from(["{}", "```json\n{}\n```", "text {} text"]))
def test_any_json_gives_pairs_or_unparsable(value, frame):
    try:
        pairs = parse(frame.replace("{}", json.dumps(value)))
    except Unparsable:
        return
    for pair in pairs:
        "".join(pair).encode("utf-8")


side = st.text(min_size=1, max_size=40).map(str.strip).filter(bool)


@given(st.lists(st.tuples(side, side), min_size=1, max_size=5))
def test_what_a_teacher_writes_is_read_back(pairs):
    text = json.dumps({"turns": [{"question": q, "answer": a} for q, a in pairs]}, ensure_ascii=False)
    assert parse(text) == pairs
