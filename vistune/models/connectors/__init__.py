"""Connectors: from a vision encoder's features to the language model's embedding space, one kind a file."""

from vistune.models.connectors.grid import GridMLP, GridMLPConfig

__all__ = ["GridMLP", "GridMLPConfig"]
