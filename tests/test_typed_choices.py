"""Losses, miners, relations and regularisers as objects: one thing, however it is said."""

import copy
import pickle
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import pullpush
from pullpush import Criterion, UserError, losses, miners, regularizers, relations
from pullpush.maths.choice import Choice
from pullpush.runs.config import Config
from pullpush.runs.options import config_from, parse

ROOT = Path(__file__).parents[1]
ALL = [(room, name) for room in (losses, miners, regularizers, relations) for name in room.__all__]


@pytest.mark.parametrize(("room", "name"), ALL, ids=[name for _, name in ALL])
def test_objects_are_values(room: Any, name: str) -> None:
    factory = getattr(room, name)
    made = factory()
    assert made == factory() != object()
    assert hash(made) == hash(factory())
    assert eval(repr(made), vars(room)) == made
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made)), made.replace()):
        assert other == made
        assert other.made_by(factory)
    with pytest.raises(AttributeError, match=r"can't be changed: \.replace"):
        made.options = {}
    with pytest.raises(UserError, match="has no option 'nonsense'"):
        factory(nonsense=1)
    with pytest.raises(TypeError):
        factory(1)


def test_other_options_are_another_object() -> None:
    circle = losses.circle(margin=0.3)
    assert circle != losses.circle()
    assert circle == losses.circle(scale=80, margin=0.3) == losses.circle(margin=0.1).replace(margin=0.3)
    assert circle != miners.hardest()
    assert len({circle, losses.circle(margin=0.3), losses.circle()}) == 2
    assert (circle.whole, circle.replace(per="batch").whole) == (False, True)
    with pytest.raises(UserError, match="margin of loss 'circle' must be a number from 0 to 2"):
        losses.circle(margin=3)


def test_every_form_is_one_loss(tmp_path: Path) -> None:
    """Object, name, mapping, command line and YAML; as a criterion and as the configuration of a run."""
    wanted = losses.circle(margin=0.3)
    mapping = {"name": "circle", "margin": 0.3}
    forms: list[Criterion] = [Criterion(wanted), Criterion("circle", margin=0.3), Criterion(losses.circle, margin=0.3)]
    assert {criterion.loss for criterion in [*forms, Criterion(mapping)]} == {wanted}  # type: ignore[arg-type]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"loss": mapping}))
    words = ["--loss", "circle", "--loss.margin", "0.3"]
    configs = [
        Config(loss=wanted),
        Config(loss=mapping),  # type: ignore[arg-type]
        config_from({"loss": wanted}),
        config_from({"loss": mapping}),
        parse(words),
        parse(["--config", str(file)]),
        config_from(Config(loss=wanted).values()),
    ]
    assert {config.loss for config in configs} == {wanted}
    assert {config.miner for config in configs} == {None}
    assert Config().miner is parse([]).miner is None
    assert parse(["--miner", "multi_similarity"]).miner == miners.multi_similarity()
    hard = miners.easy_hard(negative="hard")
    assert Config(miner=hard).miner == config_from({"miner": hard}).miner == hard
    assert Config(miner=None).miner is config_from({"miner": None}).miner is parse(["--miner", "none"]).miner is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Criterion(miners.hardest()), r"hardest\(\) is a miner, not a loss"),
        (lambda: Criterion(losses.circle(), miner=losses.circle), "'circle' is a loss, not a miner"),
        (lambda: Criterion(lambda similarity, pairs: None), r"called with rectangle.*takes similarity, pairs"),
        (lambda: Criterion(5), "loss must be a name, a mapping"),
        (lambda: Config(loss="circel"), "did you mean 'circle'"),
        (lambda: Config(miner=miners.hardest), None),
        (lambda: Criterion(relation=relations.same_ancestor(levl=1)), "did you mean 'level'"),
    ],
)
def test_what_is_not_of_the_kind_is_refused(make: Callable[[], Any], message: str | None) -> None:
    if message is None:
        make()
        return
    with pytest.raises(UserError, match=message):
        make()


def test_a_function_of_ones_own_is_one_too() -> None:
    def positives(rectangle: Any, *, weight: float = 1.0) -> Any:
        return losses.contrastive(negative_margin=1.0)(rectangle)

    own = Criterion(positives, weight=2.0)
    assert isinstance(own.loss, Choice)
    assert repr(own.loss) == "positives(weight=2.0)"
    x, labels = torch.eye(4), torch.tensor([0, 0, 1, 1])
    torch.testing.assert_close(own(x, labels), Criterion("contrastive", negative_margin=1.0)(x, labels))


def test_stubs_are_those_of_the_rooms() -> None:
    stubs = runpy.run_path(str(ROOT / "tools" / "stubs.py"))
    for kind in ("losses", "miners", "regularizers"):
        text = (Path(pullpush.__file__).parent / f"{kind}.pyi").read_text(encoding="utf-8")
        assert text == stubs["stub"](kind), "python tools/stubs.py writes them anew"
