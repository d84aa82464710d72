"""Records are frozen dataclasses to whoever uses them, and an id is the hash that its docstring names."""

import pickle
from base64 import b32encode
from dataclasses import asdict, fields, is_dataclass, replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.hashing import canonical
from vistune.records import SCHEMA_VERSION, Category, Lineage, Message, Region, sample_id

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LINEAGES = st.builds(
    Lineage, TEXT, st.lists(TEXT, max_size=3).map(tuple), st.just(()), TEXT, TEXT, TEXT, TEXT, item=st.integers(0, 9)
)


def test_a_record_is_a_dataclass_that_cannot_be_changed():
    region = Region((0.0, 1.0, 2.0, 3.0), "dog", "7")
    assert is_dataclass(region) and [f.name for f in fields(Message)] == ["role", "text", "images", "places"]
    moved = replace(region, image=1)
    assert (moved.image, region.image) == (1, 0) and asdict(moved) == asdict(region) | {"image": 1}
    assert replace(moved, image=0) == region and len({region, replace(moved, image=0), moved}) == 2
    assert pickle.loads(pickle.dumps(region)) == region
    with pytest.raises(AttributeError):
        region.image = 2


def test_defaults_are_not_shared():
    assert Category("dog").names is not Category("dog").names
    assert Category("dog", names={"zh": "狗"}).name("zh") == "狗" and Category("dog").name("zh") is None


@given(st.sampled_from(["caption", 'a "b"\\\n']), LINEAGES, st.integers(-(2**63), 2**64))
def test_an_id_is_the_hash_of_canonical_json(task, lineage, seed):
    made_by = (lineage.template, lineage.prompt, lineage.prompt_sha256, lineage.teacher, lineage.item)
    identity = canonical([SCHEMA_VERSION, task, seed, lineage.annotated_image, lineage.annotation_ids, *made_by])
    assert sample_id(task, lineage, seed) == "vt1:" + b32encode(sha256(identity).digest()).decode().lower()[:26]
