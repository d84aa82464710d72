"""Validate: samples in, a release out that training may trust.

| what is wrong | what happens |
|---|---|
| a row breaks a "hard" check of `checks.py` | the row is quarantined |
| an image with the right bytes does not decode, or is not of the size declared for it | its rows are quarantined |
| a licence outside `allow_licences` | the row is removed; the user asked for it, so it is not quarantine |
| a duplicate row, a picture shared with held-out data | the row is removed, its twin named |
| more than `max_quarantined_share` of the rows are quarantined | stop: something is wrong with all of them |
| an image file is missing, or its bytes are not those annotated | stop: the sources changed under the samples |
| two rows share an id | stop: neither can be traced |
| training uses the wording of a task kind declared never trained | stop: the evaluation's claim would be false |
| a split that had rows has none left, or there is nothing to train on | stop: no later stage can work |
| rows in are not rows out plus rejects | stop: a row was lost |
| a critical expectation of `suite.py` fails | stop: the release is not what it says |
| a warning's share is above `max_warning_share`, or a warning expectation fails | reported: a matter of judgement |

Every row that leaves has a `Reject` with its reason. Counts are of rows that entered this stage; what upstream stages
rejected stays with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vistune.stages import Context


@dataclass(frozen=True)
class Params:
    allow_licences: tuple[str, ...] = ()  # rows under other licences are removed; as adapt.allow_licences
    languages: tuple[str, ...] = ("en", "zh")
    min_samples: int = 1  # a smaller release stops the run
    max_quarantined_share: float = 0.05  # of the rows that entered; more stops the run
    max_warning_share: float = 0.005  # of the rows a warning check looked at; more is reported
    max_response_words: int = 400  # longer responses are a warning
    yes_share_low: float = 0.45  # share of presence questions answered yes; outside is a warning
    yes_share_high: float = 0.55
    box_tolerance: float = 1.0  # pixels a box may leave its image
    near_duplicate_hamming: int = 8  # bits of 64 in which the hashes of two near-duplicate pictures may differ
    near_duplicate_difference: float = 0.2  # and their thumbnails, relative to contrast; see similar.py
    near_duplicate_rouge: float = 0.9  # ROUGE-L F1 above which two long responses about one picture are one
    near_duplicate_words: int = 8  # tokens from which on a response is long
    # "image": training rows with a benchmark's picture are removed; "question": only if they also ask its question.
    decontaminate: Literal["image", "question"] = "image"


def run(params: Params, inputs: Mapping[str, Path], output: Path, context: Context) -> dict[str, Any]:
    """Writes the release to `output`: samples, rejects, images, `release.json`, `attribution.json`, `checks.json` and
    `data_docs/`. `inputs` holds the folders of sources, adapt and self_instruct."""
    from vistune.validate.release import build

    return build(params, inputs, output)
