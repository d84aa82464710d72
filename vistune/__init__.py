"""vistune: annotated images in, an instruction-following vision-language model out."""

__version__ = "0.1.0"
