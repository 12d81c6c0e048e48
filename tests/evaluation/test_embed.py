import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pullpush.errors import UserError
from pullpush.evaluation import embed


class Pictures(Dataset):
    def __init__(self, n):
        self.images = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return self.images[row], row // 3, 1000 - row


def encoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 5))


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_are_in_order_and_nothing_is_left_changed(workers):
    model, data = encoder(), Pictures(11)
    model[1].eval()  # frozen statistics stay frozen
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    seen = []
    found = embed(model, data, batch_size=4, workers=workers, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 11), (8, 11), (11, 11)]
    assert found.labels.tolist() == [row // 3 for row in range(11)]
    assert found.ids.tolist() == [1000 - row for row in range(11)]
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model] == [True, False, True, True, True]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(found.embeddings, model.eval()(data.images))
    assert found.embeddings.dtype == torch.float32


def test_a_loader_is_taken_as_it_is_and_the_result_can_enter_autograd():
    found = embed(encoder(), DataLoader(Pictures(5), batch_size=2))
    weight = torch.ones(5, requires_grad=True)
    (found.embeddings @ weight).sum().backward()
    torch.testing.assert_close(weight.grad, found.embeddings.sum(dim=0))


def test_the_mode_is_put_back_after_a_failure():
    model = encoder()
    with pytest.raises(RuntimeError):
        embed(model, [(torch.randn(1, 2), 0, 0)])
    assert all(module.training for module in model.modules())


def test_an_empty_dataset_is_refused():
    with pytest.raises(UserError, match="empty"):
        embed(encoder(), Pictures(0))
