"""Prints pip constraints that hold every direct dependency at its declared floor: `numpy>=2.0` becomes `numpy==2.0`."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
declared = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
for name, floor in sorted({(m[1], m[2]) for each in declared if (m := re.match(r"([\w-]+)[^>;]*>=([\w.]+)", each))}):
    print(f"{name}=={floor}")
