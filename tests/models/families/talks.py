"""The conversation and the pictures that the tests of most families ask about."""

from PIL import Image

from vistune.records import Message

ASKED = [Message("user", "What is it?", (0,)), Message("assistant", "A dog.")]
PICTURES = [Image.radial_gradient("L").resize(size).convert("RGB") for size in ((80, 60), (30, 90))]
PICTURE = PICTURES[0]
UNLIKE = [PICTURE, Image.linear_gradient("L").resize((30, 90)).convert("RGB")]
"""Two pictures of which neither could be a part of the other."""
