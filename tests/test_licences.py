"""Licences: spellings, the lattice of what they ask for, and the lists that let them pass."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.licences import (
    BOTTOM,
    LICENCES,
    UNSTATED,
    Allowed,
    canonical,
    effective,
    known,
    names,
    restrictions,
)

CREATIVE = [f"CC BY{e} {v}" for e in ("", "-SA", "-ND", "-NC", "-NC-SA", "-NC-ND") for v in ("2.0", "4.0")]
STRANGE = ("CC-BY-9.0", "CC-BY-SA-ND-4.0", "CC-BY-NC-NC", "other")
STATED = st.sampled_from(
    [
        *LICENCES,
        *CREATIVE,
        "",
        " ",
        "House rules",
        "see the web page",
        *STRANGE,
        "cc0",
        "MIT License",
        "CC BY-SA 4.0 AND MIT",
    ]
)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        # The eight that the `licenses` of COCO's files name, by name and by URL.
        ("Attribution-NonCommercial-ShareAlike License", "CC-BY-NC-SA-2.0"),
        ("Attribution-NonCommercial License", "CC-BY-NC-2.0"),
        ("Attribution-NonCommercial-NoDerivs License", "CC-BY-NC-ND-2.0"),
        ("Attribution License", "CC-BY-2.0"),
        ("Attribution-ShareAlike License", "CC-BY-SA-2.0"),
        ("Attribution-NoDerivs License", "CC-BY-ND-2.0"),
        ("No known copyright restrictions", "LicenseRef-no-known-copyright"),
        ("United States Government Work", "LicenseRef-US-government-work"),
        ("http://creativecommons.org/licenses/by-nc-sa/2.0/", "CC-BY-NC-SA-2.0"),
        ("http://creativecommons.org/licenses/by/2.0/", "CC-BY-2.0"),
        ("http://flickr.com/commons/usage/", "LicenseRef-no-known-copyright"),
        ("http://www.usa.gov/copyright.shtml", "LicenseRef-US-government-work"),
        # As people and hubs write them.
        ("https://creativecommons.org/licenses/by/4.0/deed.en", "CC-BY-4.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        ("Creative Commons Attribution-ShareAlike 4.0 International License", "CC-BY-SA-4.0"),
        ("Creative Commons Zero v1.0 Universal", "CC0-1.0"),
        ("cc-by-nc-nd-4.0", "CC-BY-NC-ND-4.0"),
        ("CC BY-SA", "CC-BY-SA"),
        ("CC BY 3.0 US", "CC-BY-3.0-US"),
        ("CC0", "CC0-1.0"),
        ("Public Domain Mark 1.0", "CC-PDM-1.0"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("The MIT License", "MIT"),
        ("odc-by", "ODC-By-1.0"),
        ("ODbL", "ODbL-1.0"),
        ("GPL-3.0-or-later", "GPL-3.0-only"),
        ("non-commercial research only", "LicenseRef-research-only"),
        ("Research  only", "LicenseRef-research-only"),
        ("OpenAI Terms of Use", "LicenseRef-OpenAI-terms"),
        ("All rights reserved", "LicenseRef-all-rights-reserved"),
        # No licences, or none that is known: left as they are.
        ("CC BY 9.0", "CC BY 9.0"),
        ("CC-BY-9.0", "CC-BY-9.0"),
        ("CC-BY-SA-ND-4.0", "CC-BY-SA-ND-4.0"),
        ("CC-BY-NC-NC", "CC-BY-NC-NC"),
        ("CC BY-SA-ND 4.0", "CC BY-SA-ND 4.0"),
        ("other", "other"),
        ("MIT  or so", "MIT or so"),
        ("", UNSTATED),
    ],
)
def test_spellings(stated, expected):
    assert canonical(stated) == expected
    assert known(expected) == (expected != UNSTATED and " " not in expected and expected not in STRANGE)


@pytest.mark.parametrize("name", LICENCES)
def test_the_table_spells_its_own_names(name):
    assert canonical(name) == canonical(name.lower()) == name and known(name)


def test_what_creative_commons_asks_for():
    assert {text: sorted(restrictions(text)) for text in ("CC BY-NC-SA 4.0", "CC BY-ND 2.0", "CC0")} == {
        "CC BY-NC-SA 4.0": ["attribution", "non-commercial", "share-alike"],
        "CC BY-ND 2.0": ["attribution", "no-derivatives"],
        "CC0": [],
    }


@given(STATED, STATED, STATED)
def test_the_join_is_commutative_associative_idempotent_and_monotone(a, b, c):
    assert effective(a, b) == effective(b, a)
    assert effective(a, effective(b, c)) == effective(effective(a, b), c) == effective(a, b, c)
    assert effective(a, a) == effective(a) == effective(effective(a))
    assert restrictions(effective(a, b)) == restrictions(a) | restrictions(b)  # the union: nothing lost, nothing added
    assert restrictions(effective(a, c)) <= restrictions(effective(a, b, c))
    assert effective(a, BOTTOM) == effective(a)
    top = names(effective(a, b))
    assert not any(restrictions(x) < restrictions(y) for x in top for y in top)


@settings(max_examples=1000)
@given(STATED, STATED, st.lists(STATED.filter(str.strip), max_size=3), st.booleans(), st.booleans())
def test_a_list_takes_what_is_made_of_two_sources_only_if_it_takes_both(a, b, listed, sold, strange):
    allowed = Allowed([*listed, *["commercial"] * sold, *["unknown"] * strange])
    if allowed.refusal(effective(a, b)) is None:
        assert allowed.refusal(effective(a)) is None and allowed.refusal(effective(b)) is None
    if sold and allowed.refusal(a) is None:
        assert "non-commercial" not in restrictions(a)


@pytest.mark.parametrize(
    ("allow", "taken", "refused"),
    [
        ((), ["CC0", "CC BY-NC-ND 4.0", "ODbL"], {"": "licence_missing", "House": "licence_unknown"}),
        ((), [], {"All rights reserved": "licence_not_allowed", "MIT AND House": "licence_unknown"}),
        (("cc by 4.0",), ["CC0", "MIT", "CC-BY-2.0"], {"CC BY-SA 4.0": "licence_not_allowed", "X": "licence_unknown"}),
        (("CC BY-SA 4.0",), ["ODbL", "CC BY-SA 2.0", "MIT"], {"CC BY-NC 2.0": "licence_not_allowed"}),
        (("MIT", "CC BY-NC 4.0"), ["CC BY-NC 2.0"], {"CC BY-NC-SA 2.0": "licence_not_allowed"}),
        (("Commercial",), ["CC BY-SA 4.0", "OpenAI"], {"CC BY-NC 4.0": "licence_not_allowed", "": "licence_missing"}),
        (("commercial", "derivatives"), ["MIT"], {"CC BY-ND 4.0": "licence_not_allowed"}),
        (("unknown",), ["", "House", "CC BY-NC 4.0"], {"proprietary": "licence_not_allowed"}),
        (("House",), ["House", "house"], {"Horse": "licence_unknown", "MIT": "licence_not_allowed"}),
        (("House", "MIT"), ["MIT AND House"], {"CC BY-NC 4.0 AND House": "licence_not_allowed"}),
        (("commercial", "unknown"), ["House"], {"CC BY-NC 4.0 AND House": "licence_not_allowed"}),
        (("proprietary",), ["All rights reserved", "CC0"], {"MIT": "licence_not_allowed"}),
        (("proprietary", "commercial"), [], {"CC BY-NC 4.0 AND proprietary": "licence_not_allowed"}),
    ],
)
def test_lists(allow, taken, refused):
    allowed = Allowed(allow, "here")
    assert [allowed.refusal(licence) for licence in taken] == [None] * len(taken)
    found = {licence: allowed.refusal(licence) for licence in refused}
    assert {licence: why and why[0] for licence, why in found.items()} == refused
    assert all("here" in why[1] for why in found.values() if why)


def test_an_empty_name_is_an_error():
    with pytest.raises(VistuneError, match=r"here holds an empty name.*commercial, derivatives, unknown"):
        Allowed((" ",), "here")
