"""Gradients in chunks are the gradients of the whole."""

import contextlib
import warnings

import pytest
import torch
from torch import nn

from pullpush.criterion import Criterion, cached_step, chunked, gradient_cache
from tests.support.batches import exact_memory


def tower(seed: int, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4)).double()


def data(n: int = 37):
    g = torch.Generator().manual_seed(0)
    return [torch.randn(n, 5, generator=g, dtype=torch.float64) for _ in range(2)], torch.arange(n)


def gradients(*modules):
    found = [p.grad.clone() for m in modules for p in m.parameters()]
    for m in modules:
        m.zero_grad()
    return found


@pytest.mark.parametrize("size", [5, 36, 100])
def test_two_towers_in_chunks_are_the_whole_batch(size):
    (images, texts), labels = data()
    towers = [tower(0), tower(1)]
    criterion = Criterion("siglip", symmetric=True).double()

    def loss(x, y):
        return criterion(x, labels, references=y, reference_labels=labels)

    expected = loss(towers[0](images), towers[1](texts))
    expected.backward()
    whole = gradients(*towers, criterion)
    found = cached_step(towers, [chunked(images, size), chunked(texts, size)], loss)
    torch.testing.assert_close(found, expected.detach())
    assert not found.requires_grad
    for ours, other in zip(gradients(*towers, criterion), whole, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-9, atol=1e-12)


def test_one_tower_with_memory_and_shared_parameters():
    (images, others), labels = data()
    shared = tower(0)
    expected, found = [], []
    for kept, step in ((expected, "whole"), (found, "chunks")):
        criterion = Criterion("multi_similarity", memory=exact_memory(50, 4, storage="float64"))
        criterion(torch.randn(20, 4, generator=torch.Generator().manual_seed(3)).double(), labels[:20] % 5)

        def loss(x, y, criterion=criterion):
            return criterion(torch.cat([x, y]), torch.cat([labels, labels]) % 5)

        if step == "whole":
            loss(shared(images), shared(others)).backward()
        else:
            cached_step([shared, shared], [chunked(images, 8), chunked(others, 11)], loss)
        kept += gradients(shared)
    for ours, other in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-9, atol=1e-12)


def test_dropout_is_replayed():
    (images, _), labels = data()
    encoder = tower(0, dropout=0.5)
    chunks = chunked(images, 10)
    torch.manual_seed(5)
    expected = Criterion("contrastive")(torch.cat([encoder(c) for c in chunks]), labels % 5)
    after = torch.get_rng_state()
    expected.backward()
    whole = gradients(encoder)
    torch.manual_seed(5)
    found = cached_step([encoder], [chunks], lambda x: Criterion("contrastive")(x, labels % 5))
    assert torch.equal(torch.get_rng_state(), after)
    torch.testing.assert_close(found, expected.detach())
    for ours, other in zip(gradients(encoder), whole, strict=True):
        torch.testing.assert_close(ours, other)


def test_batch_statistics_are_warned_about():
    (images, _), labels = data()
    encoder = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)).double()

    def step():
        cached_step([encoder], [chunked(images, 10)], lambda x: Criterion("contrastive")(x, labels % 5))

    with pytest.warns(UserWarning, match="batch statistics"):
        step()
    encoder[1].eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step()


class Averaged(nn.Linear):
    """Notes, as DDP would average them or not, the chunks that are embedded with a graph."""

    averaging = True

    def forward(self, x):
        if torch.is_grad_enabled():
            self.__dict__.setdefault("averaged", []).append(self.averaging)
        return super().forward(x)

    @contextlib.contextmanager
    def no_sync(self):
        self.averaging = False
        yield
        self.averaging = True


def test_every_encoder_is_averaged_over_the_ranks_with_its_last_chunk(monkeypatch):
    monkeypatch.setattr(gradient_cache, "DistributedDataParallel", Averaged)
    first, second, unused = (Averaged(3, 2) for _ in range(3))
    chunks = [chunked(torch.randn(4, 3), 2)] * 4
    cached_step([first, second, first, unused], chunks, lambda a, b, c, d: (a * b * c).sum())
    assert first.averaged == [False, False, False, True]
    assert second.averaged == [False, True]
    assert "averaged" not in vars(unused)
