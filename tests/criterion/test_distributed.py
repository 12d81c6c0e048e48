"""Real processes: two ranks are one process with the joined batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from pullpush.criterion import Criterion, Regularizer, Sum
from pullpush.errors import UserError
from tests.support.batches import CLASSES, DIM, batch, criterion, exact_memory

RANKS, ROWS, STEPS = 2, 6, 3

# One of each kind: pairs in two terms, learned options, triplets, triplets that need the references' own similarities,
# proxies row by row, proxies over the whole batch, ranks, blocks of rows, miners of the whole batch.
CASES = {
    "contrastive": {},
    "siglip": {},
    "triplet": {},
    "triplet_swap": {},
    "normalized_softmax": {},
    "proxy_anchor": {},
    "smooth_ap": {},
    "multi_similarity": {"miner": "multi_similarity", "block_rows": 4},
    "nt_xent": {"learn": "temperature"},
    "circle": {"miner": "hard_percent"},
    "nca": {"miner": "angular"},
}


EACH = ("contrastive", "circle", "triplet_swap")


class Model(torch.nn.Module):
    def __init__(self, loss):
        super().__init__()
        self.encoder = torch.nn.Linear(DIM, DIM).double()
        with torch.no_grad():
            self.encoder.weight.copy_(torch.eye(DIM) + 0.1 * torch.ones(DIM, DIM))
            self.encoder.bias.fill_(0.05)
        self.loss = loss

    def forward(self, x, labels, ids):
        return self.loss(self.encoder(x), labels, ids)


def losses(named_ids):
    for name, options in CASES.items():
        yield name, criterion(name, **options), named_ids
    memory = exact_memory(16, DIM, storage="float64")
    yield "memory", Criterion("multi_similarity", memory=memory), named_ids
    memory = exact_memory(16, DIM, storage="float64")
    yield "prefixes", Criterion("multi_similarity", memory=memory, matryoshka=(4, 2)), named_ids
    table = exact_memory(30, DIM, items=100, layout="table", storage="float64")
    yield "table", Criterion("contrastive", memory=table), True
    regular = Sum([Criterion("contrastive"), Regularizer("variance"), Regularizer("embedding_norm")], [1.0, 0.3, 0.1])
    yield "sum", regular, named_ids


def steps(loss, named, part, wrap):
    """Values, gradients after the last step, and state, of some rows of the batches."""
    model = Model(loss)
    called, values = wrap(model), []
    for step in range(STEPS):
        x, labels = batch(RANKS * ROWS, step)
        ids = (torch.arange(RANKS * ROWS) + 7 * step)[part] if named else None
        model.zero_grad()
        value = called(x.detach()[part], labels[part], ids)
        value.backward()
        values.append(value.item())
    gradients = {k: p.grad for k, p in model.named_parameters()}
    return values, gradients, {k: v for k, v in model.state_dict().items() if "memory" in k or "unnamed" in k}


def rank_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    part = slice(rank * ROWS, (rank + 1) * ROWS)
    found = {}
    for named in (True, False):
        for name, loss, ids in losses(named):
            wrap = lambda model: DistributedDataParallel(model, find_unused_parameters=True)  # noqa: E731
            found[name, named] = steps(loss, ids, part, wrap)
    alone = criterion("margin")
    x, labels = batch(RANKS * ROWS)
    alone(x[part], labels[part]).backward()
    found["alone"] = [p.grad for p in alone.parameters()]
    x, labels = batch(RANKS * ROWS)
    found["each"] = [criterion(name, reduction="none", **CASES[name])(x[part], labels[part]) for name in EACH]
    x, labels = batch(4 + rank)
    try:
        Criterion()(x, labels)
        found["sizes"] = "no error"
    except UserError as error:
        found["sizes"] = str(error)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(rank_of_two, (folder,), RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("named", [True, False])
def test_two_ranks_are_the_joined_batch(both, named):
    for name, loss, ids in losses(named):
        values, gradients, state = steps(loss, ids, slice(None), lambda model: model)
        for rank in range(RANKS):
            ours = both[rank][name, named]
            assert ours[0] == pytest.approx(values, rel=1e-10), (name, rank)
            for key, expected in gradients.items():
                torch.testing.assert_close(ours[1][key], expected, rtol=1e-6, atol=1e-9, msg=f"{name} {key}")
            for key, expected in state.items():
                torch.testing.assert_close(ours[2][key], expected, msg=f"{name} {key}")
        assert any(g.abs().max() > 1e-4 for g in gradients.values())


def test_what_is_learned_stays_equal_without_ddp(both):
    joined = criterion("margin")
    joined(*batch(RANKS * ROWS)).backward()
    for rank in range(RANKS):
        torch.testing.assert_close(both[rank]["alone"], [p.grad for p in joined.parameters()])


def test_values_of_each_anchor_are_those_of_the_own_anchors(both):
    for place, name in enumerate(EACH):
        joined = criterion(name, reduction="none", **CASES[name])(*batch(RANKS * ROWS))
        torch.testing.assert_close(torch.cat([both[rank]["each"][place] for rank in range(RANKS)]), joined)


def test_batches_of_different_sizes_are_an_error(both):
    for rank in range(RANKS):
        assert "[4, 5]" in both[rank]["sizes"]
    assert CLASSES > 1
