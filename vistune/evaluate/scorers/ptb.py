"""Captions as the words that BLEU, ROUGE and CIDEr count: the Penn Treebank tokens of the COCO caption evaluation.

pycocoevalcap runs Stanford's PTBTokenizer (CoreNLP 3.4.1, Java) with -lowerCase and drops the tokens of a list. These
are its rules for what captions hold, without Java. Consequences that surprise: "!" goes but "!!!" and "?!" stay; round
brackets stay, as "-lrb-" and "-rrb-", because they are lower-cased before the list (which has "-LRB-") is asked; "grey"
and "colour" become "gray" and "color"; "isn't" is "is n't" and "cannot" is "can not"; "and/or" is "and\\/or"; hyphened
words stay whole. Not reproduced: web addresses, emoticons and SGML, which are split at their punctuation here.
"""

from __future__ import annotations

import re

DROPPED = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
"""The list's entries that can occur after lower-casing."""

BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
SIGNS = {"£": "#", "€": "$", "¢": "cents", "–": "--", "—": "--", "…": "...", "½": "1/2", "¼": "1/4", "¾": "3/4"}

ABBREVIATIONS = (
    "mr mrs ms dr prof st ave blvd rd ft mt jr sr inc co corp ltd bros vs etc no gen col capt sgt lt gov sen rep rev "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun dept est fig op al cf"
)
SPLIT_IN_TWO = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "lemme": ("lem", "me"),
    "gimme": ("gim", "me"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
}

TOKEN = re.compile(
    r"""
      \.{3,} | \.(?:\ \.){2,}                                             # ellipsis
    | [?!]+                                                               # as many as stand together
    | -{2,}
    | (?:[a-z]\.){2,}                                                     # u.s., a.m.
    | (?:ABBREVIATIONS)\.
    | \d{1,4}(?:/\d{1,4}){1,2}                                            # fractions, dates
    | [-+]?\d[\d,]*(?::\d\d)+                                             # times
    | [-+]?(?:\d+(?:,\d{3})+|\d+)?\.?\d+(?:st|nd|rd|th|s)?(?![a-z0-9]|-[a-z])  # numbers, ordinals, decades
    | [a-z0-9]+(?:-[a-z]+){0,2}(?:/[a-z0-9]+(?:-[a-z]+){0,2}){1,2}        # and/or
    | [@#][a-z_][a-z0-9_]*                                                # handles, tags
    | o'clock | ma'am | y'all | '(?:em|til|tis|twas|n|cause)(?![a-z]) | '\d0s
    | [^\W_]+(?:[-&][^\W_]+)*                                             # words, hyphened words, at&t
    | \S
    """.replace("ABBREVIATIONS", "|".join(ABBREVIATIONS.split())),
    re.VERBOSE,
)
CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|ll|ve|re))(?![a-z'])")

OUR = re.compile(r"^([a-z]{3,})our(s?)$")
OUR_KEPT = re.compile(
    "abatjour|beflour|bonjour|calambour|carrefour|cornflour|contour|de[tv]our|dortour|dyvour|downpour|giaour|glamour|"
    "holour|inpour|outpour|pandour|paramour|pompadour|recontour|repour|ryeflour|sompnour|tambour|troubadour|tregetour|"
    "velour"
)
OUR_STEMS = ["arm", "col", "discol", "endeav", "fav", "flav", "hon", "hum", "lab", "neighb", "rum", "sav", "harb"]
OUR_ENDS = ("ed", "ing", "ite", "ites", "ful", "able", "hood", "hoods")
AMERICAN = {
    "analogue": "analog",
    "analogues": "analogs",
    "anaesthetic": "anesthetic",
    "cancelled": "canceled",
    "cancelling": "canceling",
    "centre": "center",
    "defence": "defense",
    "encyclopaedia": "encyclopedia",
    "fibre": "fiber",
    "fibres": "fibers",
    "grey": "gray",
    "kerb": "curb",
    "labelled": "labeled",
    "labelling": "labeling",
    "leant": "leaned",
    "learnt": "learned",
    "manoeuvre": "maneuver",
    "manoeuvres": "maneuvers",
    "meagre": "meager",
    "practise": "practice",
    "practised": "practiced",
    "programme": "program",
    "programmes": "programs",
    "theatre": "theater",
    "theatres": "theaters",
    "titre": "titer",
    "titres": "titers",
    "travelled": "traveled",
    "travelling": "traveling",
} | {f"{stem}our{end}": f"{stem}or{end}" for stem in OUR_STEMS for end in OUR_ENDS}
ISE = re.compile(
    r"^(capital|final|local|maxim|minim|modern|organ|penal|popular|pressur|real|recogn)is(e|ed|es|ing|ation|ations)$"
)
ANALYSE = re.compile(r"^analys(e|ed|ing)$")


def words(text: str) -> list[str]:
    """The tokens that are counted.

    >>> words("He isn't riding a well-known grey horse (at 8:30), wow!!!")
    ['he', 'is', "n't", 'riding', 'a', 'well-known', 'gray', 'horse', '-lrb-', 'at', '8:30', '-rrb-', 'wow', '!!!']
    """
    text = text.replace("’", "'").replace("‘", "`").replace("“", "``").replace("”", "''").replace('"', " '' ")
    for sign, shown in SIGNS.items():
        text = text.replace(sign, f" {shown} ")
    found: list[str] = []
    for piece in CLITIC.sub(r" \1 ", text.lower()).split():
        if CLITIC.fullmatch(f"x{piece}", 1) or piece == "...":
            found.append(piece)
            continue
        for token in TOKEN.findall(piece):
            found += SPLIT_IN_TWO.get(token, (_shape(token),))
    return [token for token in found if token not in DROPPED]


def _shape(token: str) -> str:
    if token in BRACKETS:
        return BRACKETS[token]
    token = re.sub(r"([/*])", r"\\\1", token)
    if token in AMERICAN:
        return AMERICAN[token]
    if len(token) >= 6 and OUR.match(token) and not OUR_KEPT.search(token):
        return OUR.sub(r"\1or\2", token)
    return ANALYSE.sub(r"analyz\1", ISE.sub(r"\1iz\2", token))
