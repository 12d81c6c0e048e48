"""Writes the stubs of `pullpush.losses`, `miners` and `regularizers`, by which editors and type checkers know them.

The modules take whatever their rooms hold when they are imported; a new loss is one new file, and this command.

    python tools/stubs.py [--check]     (--check writes nothing, and fails where a stub is not up to date)
"""

import sys
from importlib import import_module
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "pullpush"


def stub(kind: str) -> str:
    """Text of a stub: a line a name."""
    known = import_module(f"pullpush.maths.{kind}").REGISTRY
    lines = [f"from {known[name].__module__} import {name} as {name}" for name in sorted(known)]
    return "\n".join(["# Written by tools/stubs.py.", *sorted(lines)]) + "\n"


def main() -> int:
    for kind in ("losses", "miners", "regularizers"):
        path, text = PACKAGE / f"{kind}.pyi", stub(kind)
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path.name} is not up to date: python tools/stubs.py", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
