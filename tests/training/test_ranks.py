"""Several processes train as one: what they find is what one finds, and each embeds its share."""

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pullpush.errors import UserError
from pullpush.runs.log import read_log
from pullpush.training import train
from pullpush.training.ranks import together
from tests.support import alone

Options = dict[str, Any]

# Each rank is forked, as torchrun starts it: the environment says which it is, and how many machines there are.
RANKS = """
import json, os, socket, sys, traceback
from collections import defaultdict

import torch

torch.set_num_threads(1)  # no thread pool, so that forking is safe

from pullpush.training import towers, train

options, folder = json.loads(sys.argv[1]), sys.argv[2]
embedded, compute = defaultdict(int), towers.Tower._computed


def counted(self, encode, chunks, total, *more):
    for part in compute(self, encode, chunks, total, *more):
        embedded[encode.__name__] += len(part)
        yield part


towers.Tower._computed = counted
for words in sys.argv[3:]:
    world, nodes = map(int, words.split("/"))
    each, children = world // nodes, []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank in range(world):
        if not (child := os.fork()):
            place = {"RANK": rank, "LOCAL_RANK": rank % each, "GROUP_RANK": rank // each, "WORLD_SIZE": world}
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "run"}
            os.environ.update({name: str(value) for name, value in {**place, **meeting}.items()})
            try:
                train(**options, device="cpu", devices=each, nodes=nodes, out=f"{folder}/{world}", quiet=True)
                os.write(1, (json.dumps([world, rank, embedded]) + "\\n").encode())
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        children.append(child)
    assert {os.waitpid(child, 0)[1] for child in children} == {0}
"""


def assert_same_run(one: Path, other: Path) -> None:
    """The first step and what was embedded before it are equal. Adam makes rounding errors of tiny gradients as large
    as any other, so what follows is close."""
    for a, b in zip(read_log(one / "log.jsonl"), read_log(other / "log.jsonl"), strict=True):
        assert a["step"] == b["step"]
        for name in ("train/loss", "gradient_norm", "validation/loss_all", "validation/loss_miner"):
            if name in a:
                assert b[name] == pytest.approx(a[name], rel=1e-4 if a["step"] <= 1 else 0.05), (name, a["step"])
    for name in ("test-before", "validation-before", "test-after", "validation-after", "train-after", "test-views"):
        both = (np.load(run / "embeddings" / f"{name}.npy") for run in (one, other))
        np.testing.assert_allclose(*both, atol=1e-5 if "before" in name else 0.1, err_msg=name)
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (one, other)]
    assert comparable(metrics[0]) == comparable(metrics[1])


def comparable(metrics: Mapping[str, Any]) -> Any:
    return {name: sorted(metrics[name]) for name in metrics if isinstance(metrics[name], dict)}, metrics["steps"]


@pytest.fixture(scope="module")
def shared(small: Options) -> Options:
    """A run whose steps don't depend on how the batch is divided: no statistics of a batch, nothing drawn."""
    encoder = {**small["encoder"], "augment": False, "frozen_norm": True}
    return {
        **small,
        "data": {**small["data"], "workers": 0},
        "encoder": encoder,
        "batch": {"classes": 4, "samples": 3},
        "views": {"query": ["1", "1 flip"], "gallery": ["1"]},
        "steps": 2,
        "validate_every": 2,
        "gate": False,
        "nmi": False,
    }


@pytest.fixture(scope="module")
def weights(small: Options, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a backbone, so that its statistics are kept."""
    import timm
    import torch

    torch.manual_seed(0)
    torch.save(timm.create_model("test_efficientnet").state_dict(), path := tmp_path_factory.mktemp("w") / "w.pt")
    return path


@pytest.mark.parametrize("worlds", [["2/2"], pytest.param(["2/1", "4/2"], marks=pytest.mark.slow)])
def test_several_processes_are_one(shared: Options, weights: Path, tmp_path: Path, worlds: list[str]) -> None:
    """Processes / machines."""
    learning = {**shared, "encoder": {**shared["encoder"], "weights": str(weights)}}
    ended = alone(RANKS, json.dumps(learning), str(tmp_path), *worlds)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    one = train(**learning, out=str(tmp_path / "one"), quiet=True)
    said = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("[")]
    for world in (int(each.split("/")[0]) for each in worlds):
        assert_same_run(one, tmp_path / str(world))
        counts = [tuple(sorted(embedded.items())) for of, _, embedded in said if of == world]
        assert len(counts) == world
        assert len(set(counts)) == 1  # all of them embed as much, plain and in views


def test_processes_that_are_not_there_are_said(
    shared: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"the gradient cache runs in one process: leave out .* --devices and --nodes"):
        train(**shared, gradient_cache=4, nodes=2, out=str(tmp_path / "run"))
    with pytest.raises(UserError, match="started on each of the machines: torchrun --nnodes 3 --nproc_per_node 1"):
        train(**shared, device="cpu", nodes=3, out=str(tmp_path / "run"))
    place = {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "run"}
    for name, value in {**place, "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"--devices 1 on 3 machines \(--nodes\) is not to be had here"):
        train(**shared, device="cpu", nodes=3, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


class Meeting:
    """What two ranks, here threads, have of Fabric."""

    def __init__(self) -> None:
        self.barrier, self.said = threading.Barrier(2, timeout=20), None


class Rank:
    world_size = 2

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.meeting, self.is_global_zero = meeting, rank == 0

    def broadcast(self, value: Any) -> Any:
        if self.is_global_zero:
            self.meeting.said = value
        self.meeting.barrier.wait()
        value = self.meeting.said
        self.meeting.barrier.wait()
        return value


def test_all_have_the_result_of_the_first_and_its_error() -> None:
    """Nobody waits for ever for a process that could not do its work."""

    def all_of(work: Callable[[], Any]) -> list[Any]:
        meeting, found = Meeting(), dict[int, Any]()

        def rank(number: int) -> None:
            run: Any = SimpleNamespace(fabric=Rank(meeting, number), task=SimpleNamespace(encoders=[], ranks=None))
            try:
                found[number] = together(run, work)
            except UserError as error:
                found[number] = str(error)
            assert run.task.ranks is None

        threads = [threading.Thread(target=rank, args=[number]) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [found[0], found[1]]

    def failing() -> None:
        raise UserError("an image can't be read")

    called = list[int]()
    assert all_of(lambda: called.append(1) or {"map@r": 0.5}) == [{"map@r": 0.5}] * 2
    assert called == [1]
    assert all_of(failing) == ["an image can't be read"] * 2
