"""The site, built once a file of tests."""

from pathlib import Path

import pytest

pytest.importorskip("mkdocs")

from mkdocs.commands.build import build
from mkdocs.config import load_config

CONFIG = Path(__file__).parents[2] / "mkdocs.yml"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(CONFIG.parent)
        patch.delenv("SITE_URL", raising=False)
        build(load_config(str(CONFIG), site_dir=str(folder), strict=True))
    return folder
