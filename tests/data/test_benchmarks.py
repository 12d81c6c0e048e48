"""The official layouts, on small trees with real images: read, split by class, and refused when broken."""

import shutil

import pandas as pd
import pytest

from pullpush.data.benchmarks import counts
from pullpush.data.check import check
from pullpush.data.readers import PLACES, gathered
from pullpush.data.sources import compare_with_published, open_items
from pullpush.data.splits import split_by_class
from pullpush.data.synthetic import LAYOUTS, make_tree
from pullpush.errors import UserError

BENCHMARKS = ["sop", "inshop", "vehicleid", "cub", "cars", "cars-devkit", "cars-folders", "fashion-mnist"]


def reader(layout):
    return layout if layout in PLACES else layout.split("-")[0]


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    root = tmp_path_factory.mktemp("trees")
    return {layout: make_tree(layout, root / layout) for layout in BENCHMARKS}


@pytest.fixture
def tree(trees, tmp_path):
    """A copy that a test may break."""
    return lambda layout: shutil.copytree(trees[layout], tmp_path / layout)


@pytest.mark.parametrize("layout", BENCHMARKS)
def test_layouts(trees, layout):
    items = open_items(reader(layout), root=trees[layout])
    assert (len(items), len(items.classes)) == (32, 8)
    assert check(items) == []
    assert compare_with_published(items)["missing"].gt(0).any()
    if layout == "fashion-mnist":
        assert set(items.table["split"]) == {""}
        return
    found = counts(items)
    assert found["train"] == found["test"] == {"images": 16, "classes": 4}
    split = split_by_class(items, validation=0.25)
    assert split.table["split"].value_counts().to_dict() == {"train": 12, "validation": 4, "test": 16}
    assert (split.table["split"] == "test").equals(items.table["split"] == "test")


def test_the_reader_says_what_the_maker_wrote(trees):
    """Same images under the same class, whatever the layout."""
    sizes = {
        layout: open_items(reader(layout), root=trees[layout]).table["label"].value_counts() for layout in BENCHMARKS
    }
    assert all((size == 4).all() for size in sizes.values())
    cars = [open_items("cars", root=trees[name]) for name in ("cars", "cars-devkit", "cars-folders")]
    sides = [dict(zip(c.table["label"], c.table["split"], strict=True)) for c in cars]
    assert sides[0] == sides[1] == sides[2]
    assert cars[0].classes == cars[1].classes == cars[2].classes


def test_roles_and_categories(trees):
    inshop = open_items("inshop", root=trees["inshop"])
    assert counts(inshop)["query"] == counts(inshop)["gallery"] == {"images": 8, "classes": 4}
    assert set(inshop.table["category"]) == {"WOMEN/Dresses", "WOMEN/Shorts"}
    assert set(open_items("sop", root=trees["sop"]).table["category"]) == {"bicycle", "chair"}


def test_vehicleid_lists(trees):
    for size in ("small", "medium", "large", 2400):
        items = open_items("vehicleid", root=trees["vehicleid"], size=size)
        assert items.name in gathered("PUBLISHED")
    with pytest.raises(UserError, match="'small', 'medium', 'large'"):
        open_items("vehicleid", root=trees["vehicleid"], size="huge")


def test_a_folder_above_the_tree_is_found(trees, tmp_path):
    shutil.copytree(trees["cub"], tmp_path / "CUB_200_2011")
    assert len(open_items("cub", root=tmp_path)) == 32


def test_comparison_counts_what_is_missing(trees):
    table = compare_with_published(open_items("sop", root=trees["sop"])).set_index(["part", "what"])
    assert table.loc[("train", "images")].tolist() == [59551, 16, 59535]
    assert table.loc[("test", "classes")].tolist() == [11316, 4, 11312]


@pytest.mark.parametrize("name", ["sop", "inshop", "vehicleid", "cub", "cars"])
def test_root_is_needed_and_must_be_the_data(name, tmp_path):
    with pytest.raises(UserError, match="root"):
        open_items(name)
    with pytest.raises(UserError, match="does not exist"):
        open_items(name, root=tmp_path / "absent")
    with pytest.raises(UserError, match="layout"):
        open_items(name, root=tmp_path)


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("sop", "Ebay_test.txt"),
        ("vehicleid", "train_test_split/test_list_800.txt"),
        ("cub", "image_class_labels.txt"),
        ("cars-devkit", "devkit/cars_meta.mat"),
        ("fashion-mnist", "t10k-labels-idx1-ubyte.gz"),
    ],
)
def test_missing_list(tree, layout, file):
    root = tree(layout)
    (root / file).unlink()
    with pytest.raises(UserError, match=file.split("/")[-1].removesuffix(".gz")):
        open_items(reader(layout), root=root)


@pytest.mark.parametrize("layout", ["sop", "inshop", "vehicleid", "cub", "cars", "cars-devkit"])
def test_missing_image(tree, layout):
    root = tree(layout)
    image = sorted(path for path in root.rglob("*") if path.suffix.lower() == ".jpg")[0]
    image.unlink()
    with pytest.raises(UserError, match=f"1 of 32 .*{image.name}"):
        open_items(reader(layout), root=root)
    items = open_items(reader(layout), root=root, missing="skip")
    assert len(items) == 31
    assert image.name in items.notes[0]


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("sop", "Ebay_train.txt"),
        ("inshop", "Eval/list_eval_partition.txt"),
        ("vehicleid", "train_test_split/train_list.txt"),
        ("cub", "images.txt"),
    ],
)
def test_wrong_columns(tree, layout, file):
    root = tree(layout)
    path = root / file
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], "a b c d e f", *lines[5:]]))
    with pytest.raises(UserError, match=r"line 6: 'a b c d e f' should have the columns"):
        open_items(reader(layout), root=root)
    path.write_text("\n".join([*lines[:5], "lonely"]))
    with pytest.raises(UserError, match="line 6"):
        open_items(reader(layout), root=root)


def test_class_on_both_sides(tree):
    root = tree("sop")
    path = root / "Ebay_test.txt"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].split()[0] + " 1 " + " ".join(lines[1].split()[2:])
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"1 classes are in two splits \(1\)"):
        open_items("sop", root=root)


def test_broken_annotations(tree):
    root = tree("cars")
    (root / "cars_annos.mat").write_bytes(b"no matlab file")
    with pytest.raises(UserError, match=r"cannot read .*cars_annos.mat"):
        open_items("cars", root=root)
    root = tree("fashion-mnist")
    (root / "train-images-idx3-ubyte.gz").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot read"):
        open_items("fashion-mnist", root=root)
    status = tree("inshop") / "Eval" / "list_eval_partition.txt"
    status.write_text(status.read_text().replace(" query", " quest", 1))
    with pytest.raises(UserError, match="'quest' is unknown"):
        open_items("inshop", root=status.parent.parent)


def test_maker_never_overwrites_and_repeats_itself(tmp_path):
    first = make_tree("cub", tmp_path / "a", seed=3)
    second = make_tree("cub", tmp_path / "b", seed=3)
    other = make_tree("cub", tmp_path / "c", seed=4)
    image = "images/001.Bird_1/Bird_0000.jpg"
    assert (first / image).read_bytes() == (second / image).read_bytes() != (other / image).read_bytes()
    with pytest.raises(UserError, match="not empty"):
        make_tree("cub", first)
    with pytest.raises(UserError, match="unknown layout"):
        make_tree("birds", tmp_path / "d")
    assert set(BENCHMARKS) <= set(LAYOUTS)


def test_published_numbers_are_those_of_the_papers():
    published = gathered("PUBLISHED")
    frame = pd.DataFrame(
        {name: {part: n.get("classes") for part, n in parts.items()} for name, parts in published.items()}
    )
    assert frame["sop"].dropna().tolist() == [11318, 11316]
    assert frame["vehicleid-large"].dropna().tolist() == [13164, 2400]
    assert published["inshop"]["query"]["images"] + published["inshop"]["gallery"]["images"] == 26830
