"""Messages to a person name options as they are typed."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullpush.data.readers import PLACES
from pullpush.runs.options import options_of

SOURCE = Path(__file__).parents[1] / "src" / "pullpush"
# Rooms whose messages are about a run or a verb; criterion and maths speak of Python's arguments.
ROOMS = ("cli", "data", "encoders", "reports", "studies", "training")
SOURCES = (*PLACES, "photos", "items.csv")
OPTIONS = {name for data in SOURCES for name in options_of("contrastive", "multi_similarity", data) if "." in name}
GROUPS = ("data", "batch", "encoder", "optimizer")
LEAVES = {name.rpartition(".")[2] for name in OPTIONS if name.split(".")[0] in GROUPS}


def messages() -> Iterator[tuple[str, str]]:
    """The place and the text of every `UserError(...)`, with {} for what is filled in."""
    for room in ROOMS:
        for path in (SOURCE / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError" and node.args:
                    parts = [each for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)]
                    yield f"{path.relative_to(SOURCE)}:{node.lineno}", " ".join(str(each.value) for each in parts)


def test_no_message_writes_an_option_as_python_does() -> None:
    found = list(messages())
    assert len(found) > 60
    wrong = []
    for place, text in found:
        for name in LEAVES:
            if re.search(rf"(?<![\w.-]){name}=", text):
                wrong.append(f"{place}: {name}= in {text!r}")
        if re.search(r"\((P|K)\)", text):
            wrong.append(f"{place}: {text!r}")
    if wrong:
        pytest.fail("\n".join(wrong))


def test_options_in_messages_are_there() -> None:
    """`--batch.clases` in a message would help nobody."""
    for place, text in messages():
        for option in re.findall(r"--((?:data|batch|encoder|optimizer|text|memory)\.[a-z_]+)", text):
            assert option in OPTIONS, f"{place}: --{option}"
