"""Put on PYTHONPATH, this folder replaces every stage by a quick one (`stage.py`), in this process and its children."""

import importlib.abc
import importlib.util
import sys
from pathlib import Path

STAGE = Path(__file__).parent / "stage.py"
NAMES = ("sources", "adapt", "self_instruct", "validate", "tune", "evaluate", "promote", "report")


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        package, _, name = fullname.rpartition(".")
        if package == "vistune" and name in NAMES:
            return importlib.util.spec_from_file_location(fullname, STAGE)
        return None


sys.meta_path.insert(0, Finder())
