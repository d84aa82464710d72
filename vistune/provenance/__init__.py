"""The chain from a model version back to its sources: looked at (`about`), checked (`verify`), and cut (`purge`)."""
