"""Images as tensors: dataset, cache, transforms, augmentation of batches."""

import gzip
import os
from itertools import count, islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pullpush.data import images, workers
from pullpush.data.images import ImageDataset
from pullpush.data.sampler import ClassBalancedSampler
from pullpush.data.sources import open_items
from pullpush.data.splits import split_by_class
from pullpush.data.synthetic import make_tree
from pullpush.errors import UserError
from pullpush.images.augment import GREY, Augmentation, step_generator
from pullpush.images.preprocessing import Preprocessing, normalise, square
from pullpush.runs.options import config_from
from pullpush.training import towers
from pullpush.training.feature_cache import features_key
from pullpush.training.towers import ImageTower

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
STILL = {"scale": (1, 1), "ratio": (1, 1), "flip": 0, "brightness": 0, "contrast": 0, "saturation": 0}


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    return open_items(make_tree("folder", tmp_path_factory.mktemp("images") / "folder"))


@pytest.fixture
def batch():
    return torch.randint(0, 256, (6, 3, 20, 20), dtype=torch.uint8, generator=step_generator(0, 0))


def test_dataset_with_and_without_cache_agree(items):
    cached = ImageDataset(items, Preprocessing(48, MEAN, STD).transform, cache=48)
    plain = ImageDataset(items, Preprocessing(48, MEAN, STD).transform)
    assert cached.pixels.shape == (32, 3, 48, 48)
    for row in (0, 7, 31):
        image, label, item_id = plain[row]
        assert (label, item_id) == (items.labels[row], items.ids[row])
        torch.testing.assert_close(cached[row][0], image)
    images, labels, ids = cached.batch([3, 1])
    assert images.dtype == torch.uint8
    assert labels.tolist() == items.labels[[3, 1]].tolist()
    assert ids.tolist() == [3, 1]
    torch.testing.assert_close(normalise(images, MEAN, STD, 48), torch.stack([plain[3][0], plain[1][0]]))


def test_cached_images_need_no_file_any_more(tmp_path):
    items = open_items(make_tree("folder", tmp_path / "folder"))
    dataset = ImageDataset(items, cache=16)
    before = dataset[5][0].clone()
    for path in items.table["path"]:
        Image.new("RGB", (9, 9)).save(path)
    assert torch.equal(dataset[5][0], before)


def test_a_broken_image_is_named(tmp_path):
    items = open_items(make_tree("folder", tmp_path / "folder"))
    with open(items.path(9), "wb") as file:
        file.write(b"broken")
    with pytest.raises(UserError, match=r"class_2/1.png: not an image"):
        ImageDataset(items.select([9]))[0]
    with pytest.raises(UserError, match="not an image"):
        ImageDataset(items, cache=16)


@pytest.mark.parametrize("augment", [True, False])
def test_a_step_sees_the_same_kept_decoded_ahead_by_any_number_of_workers_and_resumed(items, augment):
    items = split_by_class(items, test=0.25, validation=0)

    def seen(cache, number, done, seed=3):
        data, encoder = {"cache": cache, "workers": number}, {"size": 24, "weights": "none", "augment": augment}
        tower = ImageTower(config_from({"data": data, "encoder": encoder, "seed": seed}), items)
        sampler = ClassBalancedSampler(items.split("train").labels, 4, 2, passes=None)
        sampler.seek(done)
        torch.manual_seed(0)
        state = torch.get_rng_state()
        batches = list(islice(tower.loader(sampler), 4 - done))
        assert all(batch.inputs.dtype == torch.uint8 for batch in batches)
        views = [(batch.rows, tower.given(batch, torch.device("cpu"))) for batch in batches]
        assert torch.equal(torch.get_rng_state(), state)
        return views

    kept = seen("yes", "auto", 0)
    assert kept[0][1].shape == (8, 3, 24, 24)
    assert not torch.equal(kept[0][1], kept[1][1])
    assert torch.equal(kept[0][1], seen("yes", 0, 0, seed=4)[0][1]) != augment
    for cache, number, done in (("no", 0, 0), ("no", 2, 0), ("auto", 1, 2), ("no", 1, 3)):
        for (rows, views), (other_rows, others) in zip(kept[done:], seen(cache, number, done), strict=True):
            assert torch.equal(rows, other_rows)
            assert torch.equal(views, others)


def test_images_are_kept_where_they_take_less_than_half_of_what_is_free(items, monkeypatch):
    items, rows = split_by_class(items, test=0.25, validation=0), []
    whole = images.square
    monkeypatch.setattr(images, "square", lambda *args: rows.append(1) or whole(*args))
    config = config_from({"encoder": {"size": 16, "weights": "none"}, "data": {"workers": 0}})
    needed = len(items.split("train")) * 3 * 18**2
    for free, decoded in ((2 * needed, 3 * 8), (2 * needed + 2, len(items.split("train")))):
        monkeypatch.setattr(towers.image, "available_bytes", lambda free=free: free)
        rows.clear()
        sampler = ClassBalancedSampler(items.split("train").labels, 4, 2, passes=None)
        list(islice(ImageTower(config, items).loader(sampler), 3))
        assert len(rows) == decoded


def test_available_memory_is_that_of_the_machine_or_what_is_left_of_the_limit(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(workers, "LIMITS", (tmp_path / "none", limit))
    for text in ("max\n", f"{1 << 62}\n"):
        limit.write_text(text)
        assert 0 < workers.available_bytes() < 1 << 60
    limit.write_text("1000\n")
    assert workers.available_bytes() == 0


def test_workers_start_where_the_rest_takes_longer(monkeypatch):
    started = []
    whole = workers.in_workers

    def counted(function, chunks, number, pinned=False):
        started.append(number)
        return whole(function, chunks, 0, pinned)

    monkeypatch.setattr(workers, "in_workers", counted)
    for worth in (1e-9, 1e9):
        monkeypatch.setattr(workers, "WORTH", worth)
        assert [row for chunk in workers.by_chunks(list, 150, "counting") for row in chunk] == list(range(150))
    assert started == [0, workers.cores(), 0, 0]


def refuse_row_two(row):
    if row == 2:
        raise UserError("row 2 is broken")
    return row


@pytest.mark.parametrize("number", [0, 2])
def test_a_workers_message_stays_as_it_is(number):
    results = workers.in_workers(refuse_row_two, count(), number)
    assert list(islice(results, 2)) == [0, 1]
    with pytest.raises(UserError, match=r"^row 2 is broken$"):
        next(results)


def test_preprocessing_and_cache_keep_the_middle():
    wide = Image.new("RGB", (40, 20), "white")
    wide.paste("red", (10, 0, 30, 20))
    middle = square(wide, 20)
    assert middle.shape == (3, 20, 20)
    assert (middle[0] == 255).all()
    assert (middle[1] == 0).all()
    assert square(torch.from_numpy(np.array(wide)).permute(2, 0, 1), 10)[1].max() == 0
    assert square(Image.new("RGB", (1, 1)), 8).shape == (3, 8, 8)
    assert Preprocessing(16, MEAN, STD).transform(wide).shape == (3, 16, 16)


def test_augmentation_that_changes_nothing_normalises(batch):
    same = Augmentation(20, MEAN, STD, **STILL)(batch, step_generator(0, 0))
    torch.testing.assert_close(same, normalise(batch, MEAN, STD), atol=1e-4, rtol=1e-4)


def test_flip_is_a_flip(batch):
    flipped = Augmentation(20, MEAN, STD, **(STILL | {"flip": 1}))(batch, step_generator(0, 0))
    torch.testing.assert_close(flipped, normalise(batch.flip(-1), MEAN, STD), atol=1e-4, rtol=1e-4)


def test_warp_equals_pytorchs_affine_grid_on_a_quarter_turn(batch):
    """The grid is written out by hand; a rotation by exactly 90 degrees must be torch.rot90, one way or the other."""
    turned = Augmentation(20, MEAN, STD, **(STILL | {"rotate": 90}))
    draws = iter([1.0, 0.0, 0.0, 0.0, 0.0, 1.0])

    class Draw:
        def uniform(self, low, high):
            return torch.full((6,), next(draws))

        def chance(self, probability):
            next(draws)
            return torch.zeros(6)

    # area, log aspect, x, y, flip, angle
    result = turned._warp(batch.float(), Draw())
    candidates = [torch.rot90(batch.float(), k, (2, 3)) for k in (1, 3)]
    assert min((result - c).abs().max() for c in candidates) < 1e-2


def test_crops_lie_inside_the_picture_and_have_the_drawn_area():
    """An image of its own coordinates shows where each output pixel was read."""
    ramp = torch.arange(256, dtype=torch.uint8).expand(200, 1, 256, 256)
    where = torch.cat([ramp, ramp.transpose(2, 3), ramp], 1)
    options = STILL | {"scale": (0.3, 0.6), "ratio": (3 / 4, 4 / 3)}
    view = Augmentation(64, (0, 0, 0), (1, 1, 1), **options)(where, step_generator(0, 0)) * 255
    across, down = ((view[:, i].amax((1, 2)) - view[:, i].amin((1, 2))) / 255 * 64 / 63 for i in (0, 1))
    area = across * down
    assert area.min() > 0.29
    assert area.max() < 0.62
    assert area.std() > 0.05
    assert (across / down).min() < 0.85
    assert (across / down).max() > 1.15
    centres = view[:, 0].mean((1, 2))
    assert centres.std() > 10  # the places differ


def test_colour_is_one_matrix_equal_to_the_steps(batch):
    """The folded matrix against brightness x (contrast about the mean grey of (saturation)), step by step."""
    options = STILL | {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}
    result = Augmentation(20, MEAN, STD, **options)(batch, step_generator(5, 6))
    generator = step_generator(5, 6)
    for _ in range(6):  # what the warp draws
        torch.rand(6, generator=generator)
    saturation = torch.rand(6, generator=generator) * 0.8 + 0.6
    torch.rand(6, generator=generator)  # grey
    contrast, brightness = (torch.rand(6, generator=generator) * 0.8 + 0.6 for _ in range(2))
    expected = []
    for i, image in enumerate(batch.double() / 255):
        grey = sum(weight * image[c] for c, weight in enumerate(GREY))
        vivid = grey + saturation[i].double() * (image - grey)
        even = grey.mean() + contrast[i].double() * (vivid - grey.mean())
        final = (brightness[i].double() * even).clamp(0, 1)
        expected.append(torch.stack([(final[c] - MEAN[c]) / STD[c] for c in range(3)]))
    torch.testing.assert_close(result.double(), torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_images_differ_in_a_batch_and_steps_repeat(batch):
    same = batch[:1].expand(6, -1, -1, -1)
    augment = Augmentation(16, MEAN, STD, rotate=15, erase=0.5, grey=0.2)
    one, two, next_step = (augment(same, step_generator(7, step)) for step in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, next_step)
    assert all(not torch.equal(one[0], image) for image in one[1:])
    seeds = {
        step_generator(seed, step, rank).initial_seed() for seed in range(5) for step in range(50) for rank in range(2)
    }
    assert len(seeds) == 500


def test_augmentation_leaves_its_input_alone(batch):
    before = batch.clone()
    Augmentation(16, MEAN, STD, erase=1)(batch, step_generator(0, 0))
    normalise(batch, MEAN, STD, 12)
    normalise(batch.float(), MEAN, STD)
    assert torch.equal(batch, before)


def test_erase_hides_a_part():
    white = torch.full((50, 3, 32, 32), 255, dtype=torch.uint8)
    hidden = (
        (Augmentation(32, MEAN, STD, **STILL, erase=1)(white, step_generator(0, 0)) == 0).all(1).float().mean((1, 2))
    )
    assert (hidden > 0).float().mean() > 0.9
    assert hidden.max() < 0.25


def test_wrong_options():
    with pytest.raises(UserError, match="scale"):
        Augmentation(16, scale=(0.9, 0.5))
    with pytest.raises(UserError, match="flip=2"):
        Augmentation(16, flip=2)


def test_shrinking_is_smooth():
    stripes = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    small = normalise(stripes, (0, 0, 0), (1, 1, 1), 16)
    assert (small - 0.5).abs().max() < 0.1  # without antialiasing the stripes would survive
    assert F.interpolate(stripes.float(), 16)[0, 0, 0, 0] in (0, 255)


def test_cached_features_are_those_of_the_archive_as_it_is(tmp_path):
    root = make_tree("fashion-mnist", tmp_path / "tree", classes=2, images=2)
    items = open_items("fashion-mnist", root=root)
    backbone = torch.nn.Linear(1, 1)
    before = features_key(backbone, "", items)
    assert features_key(backbone, "", items) == before
    archive = root / "train-images-idx3-ubyte.gz"
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes())[:-1] + b"\x7f"))
    os.utime(archive, ns=(0, 0))  # whatever the resolution of the file system's clock
    assert features_key(backbone, "", items) != before
