"""Licences as sets of restrictions, and the licence that holds for what several sources made together.

A sample is made of a picture, of what people wrote about it, and of a template. Whoever uses it must keep the terms of
all of them, so restrictions add up: the join of two licences is the union of theirs. `CC0-1.0` restricts nothing and
is the bottom. Of several licences the most restrictive is named; where none includes the others, all of those that none
includes are, as an SPDX expression: `CC-BY-NC-2.0 AND CC-BY-SA-4.0`.

Names are those of SPDX (https://spdx.org/licenses); what SPDX has no name for is a `LicenseRef-`. The table says what
dataset builders ask ("may this be sold?"), not all that a lawyer would read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from vistune.errors import VistuneError

Restrictions = frozenset[str]

FREE: Restrictions = frozenset()
BY = frozenset({"attribution"})  # name the author, keep the notice
SA = frozenset({"share-alike"})  # what is made of it must carry the same licence
ND = frozenset({"no-derivatives"})  # it may be passed on only as it is
NC = frozenset({"non-commercial"})
RESEARCH = NC | {"research-only"}
USES = frozenset({"restricted-uses"})  # the licence lists uses that are forbidden
COMPETING = frozenset({"no-competing-models"})  # a model trained on it must not compete with its maker's
NOTHING = frozenset({"no-permission"})  # nobody but the owner may use it
UNKNOWN = frozenset({"unknown-terms"})
# The last two include no other, or an owner who lets them pass would let pass what they stand for beside.

LICENCES: Mapping[str, Restrictions] = {
    "CC0-1.0": FREE,
    "CC-PDM-1.0": FREE,
    "CC-PDDC": FREE,
    "PDDL-1.0": FREE,
    "Unlicense": FREE,
    "0BSD": FREE,
    "LicenseRef-no-known-copyright": FREE,
    "LicenseRef-US-government-work": FREE,
    "Apache-2.0": BY,
    "MIT": BY,
    "ISC": BY,
    "BSD-2-Clause": BY,
    "BSD-3-Clause": BY,
    "Unicode-3.0": BY,
    "ODC-By-1.0": BY,
    "OGL-UK-3.0": BY,
    "CDLA-Permissive-1.0": BY,
    "CDLA-Permissive-2.0": BY,
    "ODbL-1.0": BY | SA,
    "CDLA-Sharing-1.0": BY | SA,
    "GFDL-1.3-only": BY | SA,
    "GPL-2.0-only": BY | SA,
    "GPL-3.0-only": BY | SA,
    "AGPL-3.0-only": BY | SA,
    "C-UDA-1.0": BY | USES,
    "LicenseRef-OpenRAIL": BY | USES,
    "LicenseRef-OpenAI-terms": COMPETING,
    "LicenseRef-research-only": BY | RESEARCH,
    "LicenseRef-all-rights-reserved": NOTHING,
}
"""Those of Creative Commons with elements (BY, NC, SA, ND) are read off their names, in all versions."""

ALIASES = {
    "cc0": "CC0-1.0",
    "cc-0": "CC0-1.0",
    "cc-zero": "CC0-1.0",
    "cc-zero-1.0": "CC0-1.0",
    "public-domain-dedication-cc0": "CC0-1.0",
    "public-domain": "CC-PDDC",
    "public-domain-mark": "CC-PDM-1.0",
    "public-domain-mark-1.0": "CC-PDM-1.0",
    "cc-mark": "CC-PDM-1.0",
    "cc-mark-1.0": "CC-PDM-1.0",
    "cc-pdm": "CC-PDM-1.0",
    "pdm": "CC-PDM-1.0",
    "pddl": "PDDL-1.0",
    "no-known-copyright-restrictions": "LicenseRef-no-known-copyright",  # so COCO and Flickr
    "flickr.com-commons-usage": "LicenseRef-no-known-copyright",
    "united-states-government-work": "LicenseRef-US-government-work",  # so COCO and Flickr
    "usa.gov-copyright.shtml": "LicenseRef-US-government-work",
    "apache": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "unicode": "Unicode-3.0",
    "unicode-3": "Unicode-3.0",
    "odc-by": "ODC-By-1.0",
    "odbl": "ODbL-1.0",
    "open-database": "ODbL-1.0",
    "cdla-permissive": "CDLA-Permissive-2.0",
    "cdla-sharing": "CDLA-Sharing-1.0",
    "gfdl": "GFDL-1.3-only",
    "gpl": "GPL-3.0-only",
    "c-uda": "C-UDA-1.0",
    "openrail": "LicenseRef-OpenRAIL",
    "openai": "LicenseRef-OpenAI-terms",
    "openai-terms": "LicenseRef-OpenAI-terms",
    "openai-terms-of-use": "LicenseRef-OpenAI-terms",
    "research": "LicenseRef-research-only",
    "research-use": "LicenseRef-research-only",
    "research-purposes": "LicenseRef-research-only",
    "academic-use": "LicenseRef-research-only",
    "non-commercial-research": "LicenseRef-research-only",
    "noncommercial-research": "LicenseRef-research-only",
    "imagenet-terms": "LicenseRef-research-only",
    "all-rights-reserved": "LicenseRef-all-rights-reserved",
    "copyright": "LicenseRef-all-rights-reserved",
    "proprietary": "LicenseRef-all-rights-reserved",
    "flickr-terms-of-use": "LicenseRef-all-rights-reserved",  # they grant no one but Flickr anything
}
"""Other spellings, as `_plain` writes them."""

BOTTOM = "CC0-1.0"
"""Asks for nothing, so it is named only where it stands alone."""

UNSTATED = "NOASSERTION"
"""SPDX's word for a licence of which nothing is said."""

SENTENCES = "CC0-1.0"
"""Of the sentences that adapt's templates make. Their files are Apache-2.0, like the code."""

FORBIDDING: Mapping[str, Restrictions] = {"commercial": NC, "derivatives": ND, "unknown": FREE}
"""Words of an allow-list beside licences -> the restrictions they do not bear. `unknown` takes licences that are not
known, and pictures that state none."""

_CC = re.compile(r"(?:cc-)?by((?:-(?:nc|sa|nd))*)(?:-(\d(?:\.\d)?))?(-[a-z]{2,3})?")
_VERSIONS = frozenset({"1.0", "2.0", "2.1", "2.5", "3.0", "4.0"})
_WORDS = (
    (re.compile(r"^(https?://)?(www\.)?"), ""),
    (re.compile(r"creativecommons\.org/(licenses|publicdomain)/"), "cc-"),
    (re.compile(r"/(deed|legalcode)(\.\w+)?/?$"), ""),
    (re.compile(r"creative commons"), "cc"),
    (re.compile(r"attribution"), "by"),
    (re.compile(r"non-?commercial(?!.research)"), "nc"),
    (re.compile(r"share-?alike"), "sa"),
    (re.compile(r"no-?deriv(ative)?(s|works)?"), "nd"),
    (re.compile(r"\b(licen[cs]e|version|international|generic|unported|universal|the|only|or.later)\b"), " "),
    (re.compile(r"\bv(?=\d)"), ""),
    (re.compile(r"[^a-z0-9.]+"), "-"),
)


def effective(*stated: str) -> str:
    """The licence of what is made of sources under these licences or expressions; "" is one that states none.

    >>> effective("CC0", "CC BY-NC 2.0", "https://creativecommons.org/licenses/by/4.0/")
    'CC-BY-NC-2.0'
    >>> effective("CC BY-SA 4.0", "CC BY-NC 2.0")
    'CC-BY-NC-2.0 AND CC-BY-SA-4.0'
    """
    return _effective(frozenset(stated))


def restrictions(stated: str) -> Restrictions:
    """What a licence or an expression asks for.

    >>> sorted(restrictions("CC BY-SA 4.0")), sorted(restrictions("our own terms"))
    (['attribution', 'share-alike'], ['unknown-terms'])
    """
    return FREE.union(*map(_restrictions, names(stated)))


def names(stated: str) -> list[str]:
    """The licences of an expression in the spelling of the table; one that is not known stays as it is stated.

    >>> names("cc0 AND House rules"), names(" ")
    (['CC0-1.0', 'House rules'], ['NOASSERTION'])
    """
    return [canonical(part) for part in stated.split(" AND ")]


@lru_cache(maxsize=4096)
def canonical(stated: str) -> str:
    """The name of one licence in the spelling of the table.

    >>> canonical("Attribution-NonCommercial License"), canonical("http://creativecommons.org/licenses/by-sa/2.0/")
    ('CC-BY-NC-2.0', 'CC-BY-SA-2.0')
    """
    text = " ".join(stated.split())
    plain = _plain(text)
    # The names that Flickr gives its licences, and COCO after it, say no version: they mean this one.
    older = "2.0" if "attribution" in text.casefold() and not plain.startswith("cc") else ""
    return _SPELLED.get(plain) or _creative_commons(plain, older) or text or UNSTATED


class Allowed:
    """An allow-list. A licence on it stands for itself and for all that ask for no more than it does; words of
    `FORBIDDING` narrow the list, or (`unknown`) widen it. An empty list takes every licence that is known.

    What is not known, and what permits nothing, is taken only where the list has it word for word.

    >>> Allowed(("CC-BY-4.0",)).refusal("CC0-1.0"), Allowed(("commercial",)).refusal("CC-BY-NC-2.0")[0]
    (None, 'licence_not_allowed')
    """

    def __init__(self, allow: Iterable[str] = (), where: str = "adapt.allow_licences") -> None:
        self.where = where
        listed = [name for name in allow if name.casefold() not in FORBIDDING]
        words = [name.casefold() for name in allow if name.casefold() in FORBIDDING]
        if not all(name.strip() for name in listed):
            raise VistuneError(f"{where} holds an empty name. Name licences, or {', '.join(FORBIDDING)}.")
        self.takes_unknown = "unknown" in words
        self.forbidden: Restrictions = FREE.union(*(FORBIDDING[word] for word in words))
        self.named = {part.casefold() for name in listed for part in names(name)}
        self.bounds = [restrictions(name) for name in listed if not any(map(_must_be_named, names(name)))]
        self.listed = bool(listed)

    def refusal(self, licence: str) -> tuple[str, str] | None:
        """Reason and detail why something under this licence, or expression, is not taken."""
        usual: list[str] = []
        for part in names(licence):
            if not _must_be_named(part):
                usual.append(part)
            elif part.casefold() not in self.named and not (self.takes_unknown and not known(part)):
                return self._unnamed(part)
        asked = FREE.union(*map(_restrictions, usual))
        if asked & self.forbidden:
            return "licence_not_allowed", f"{licence} is {', '.join(sorted(asked & self.forbidden))}; see {self.where}."
        if self.listed and asked and not any(asked <= bound for bound in self.bounds):
            return "licence_not_allowed", f"{licence} asks for more than the licences of {self.where} do."
        return None

    def _unnamed(self, part: str) -> tuple[str, str]:
        if part == UNSTATED:
            return "licence_missing", f"no licence is stated; state one in `sources`, or add unknown to {self.where}."
        if known(part):
            return "licence_not_allowed", f"{part} permits nothing; if the rights are yours, add it to {self.where}."
        return "licence_unknown", f"{part!r:.120} is no known licence; add it to {self.where} if it permits this."


def _must_be_named(name: str) -> bool:
    return not known(name) or LICENCES.get(name) == NOTHING


def known(name: str) -> bool:
    """Whether it is one of the table, or of Creative Commons, as `canonical` spells it."""
    return name in LICENCES or _creative_commons(name.lower()) == name


@lru_cache(maxsize=4096)
def _effective(stated: frozenset[str]) -> str:
    found = {name: _restrictions(name) for text in stated for name in names(text) if name != BOTTOM}
    top = [name for name, own in found.items() if not any(own < other for other in found.values())]
    return " AND ".join(sorted(top)) or BOTTOM


def _restrictions(name: str) -> Restrictions:
    if name in LICENCES:
        return LICENCES[name]
    if not known(name):
        return UNKNOWN
    parts = name.split("-")
    return BY.union(*(own for element, own in (("NC", NC), ("SA", SA), ("ND", ND)) if element in parts))


@lru_cache(maxsize=4096)
def _creative_commons(plain: str, version: str = "") -> str:
    """The name of a licence of Creative Commons with elements, `version` where it states none; else ""."""
    match = _CC.fullmatch(plain)
    if match is None:
        return ""
    elements, stated, place = match[1].split("-")[1:], match[2] or "", match[3] or ""
    version = f"{stated}.0" if stated and "." not in stated else stated or version
    no_such = len(set(elements)) < len(elements) or {"sa", "nd"} <= {*elements}
    if no_such or (version and version not in _VERSIONS) or (place and not version):
        return ""
    kept = [element.upper() for element in ("nc", "sa", "nd") if element in elements]
    return "-".join(["CC-BY", *kept, *filter(None, (version, place.strip("-").upper()))])


def _plain(text: str) -> str:
    plain = text.casefold()
    for pattern, by in _WORDS:
        plain = pattern.sub(by, plain)
    return plain.strip("-.")


_SPELLED = {**ALIASES, **{_plain(name): name for name in LICENCES}}
