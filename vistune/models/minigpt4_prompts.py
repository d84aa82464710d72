"""Instructions that MiniGPT-4 and MiniGPT-v2 were trained on: prompts/alignment.txt and the pools in
minigpt4/datasets/datasets, with the authors' blanks and wording. `{}` stands for a question, phrase or box.

Texts that stand with `<Img><ImageHere></Img> ` before them and a blank after them are given without; the template
writes the image (`templates_table.py`).
"""

from __future__ import annotations

import re

ALIGNMENT = (
    "Describe this image in detail.",
    "Take a look at this image and describe what you notice.",
    "Please provide a detailed description of the picture.",
    "Could you describe the contents of this image for me?",
)
"""Stage 2 of MiniGPT-4 draws one of these."""

_CAPTION = (
    "Briefly describe this image.",
    "Provide a concise depiction of this image.",
    "Present a short description of this image.",
    "Summarize this image in a few words.",
    "A short image caption:",
    "A short image description:",
    "A photo of ",
    "An image that shows ",
    "Write a short description for the image. ",
    "Write a description for the photo.",
    "Provide a description of what is presented in the photo.",
    "Briefly describe the content of the image.",
    "Can you briefly explain what you see in the image?",
    "Could you use a few words to describe what you perceive in the photo?",
    "Please provide a short depiction of the picture.",
    "Using language, provide a short account of the image.",
    "Use a few words to illustrate what is happening in the picture.",
)

_VQA = (
    "[vqa] {}",
    "[vqa] Based on the image, respond to this question with a short answer: {}",
)

POOLS: dict[str, tuple[str, ...]] = {
    "caption": _CAPTION,  # COCO captions and TextCaps; one without a tag gets "[caption] " before it
    "vqa": _VQA,  # VQAv2, GQA, OK-VQA, A-OKVQA, OCR-VQA
    "vqa evaluation": ("Question: {} Short answer:",),
    "question": (
        "Given the image, generate a question whose answer is: {}",
        "Based on the image, provide a question with the answer: {}",
        'Given the visual representation, create a question for which the answer is "{}"',
        "From the image provided, craft a question that leads to the reply: {}",
        "Considering the picture, come up with a question where the answer is: {}",
        "Taking the image into account, generate an question that has the answer: {}",
    ),
    "refer": (
        "[refer] {}",
        "[refer] give me the location of {}",
        "[refer] where is {} ?",
        "[refer] from this image, tell me the location of {}",
        "[refer] the location of {} is",
        "[refer] could you tell me the location for {} ?",
        "[refer] where can I locate the {} ?",
    ),
    "identify": (
        "[identify] {}",
        "[identify] what object is in this location {}",
        "[identify] identify the object present at this location {}",
        "[identify] what is it in {}",
        "[identify] describe this object in {}",
        "[identify] this {} is",
        "[identify] the object in {} is",
    ),
    "grounding": (
        "[grounding] please describe this image in details",
        "[grounding] describe this image as detailed as possible",
        "[grounding] summarize this image in details",
        "[grounding] give a thorough description of what you see in this image",
    ),
    "detection": ("[detection] {}",),
}


def instruction(pool: str, n: int, words: str = "") -> str:
    """Instruction `n` of a pool about `words`, as it stands between the image and the answer's header.

    >>> instruction("refer", 2, "the red car")
    '[refer] where is the red car ? '
    """
    return POOLS[pool][n].replace("{}", words) + " "


def caption(text: str, most: int = 50) -> str:
    """A caption as stage 1 learns it: lower case, most punctuation gone, at most `most` words (BLIP's processor).

    >>> caption('A Man, riding (a) "horse"!')
    'a man, riding a horse'
    """
    text = re.sub(r"[.!\"()*#:;~]", " ", text.lower())
    text = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")
    return " ".join(text.split(" ")[:most])
