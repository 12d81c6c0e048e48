"""Which tests `make quick` takes for a change, by the real imports of the repository."""

import pytest

from tools import quick


@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("src/pullpush/maths/losses/circle.py", "tests/maths/test_losses.py"),
        ("src/pullpush/data/splits.py", "tests/data/test_splits.py"),
        ("src/pullpush/runs/options.py", "tests/training/test_options.py"),
        ("tests/maths/test_pairs.py", "tests/maths/test_pairs.py"),
        ("docs/concepts.md", "tests/test_docs.py"),
        ("tools/quick.py", "tests/test_quick.py"),
    ],
)
def test_the_nearest_test_comes_first(file, first):
    assert quick.tests_of([file])[0] == first


def test_far_tests_come_late_or_not_at_all():
    tests = quick.tests_of(["src/pullpush/maths/losses/circle.py"])
    assert "tests/images/test_decode.py" not in tests
    assert tests.index("tests/maths/test_losses.py") < tests.index("tests/server/test_page.py")


def test_what_tests_share_reaches_all_that_use_it():
    assert "tests/maths/test_losses.py" in quick.tests_of(["tests/support/oracles.py"])
    assert {"tests/server/test_page.py", "tests/server/test_writers.py"} <= set(
        quick.tests_of(["tests/server/conftest.py"])
    )


def test_a_page_or_a_template_reaches_the_tests_of_its_package():
    assert "tests/reports/test_report.py" in quick.tests_of(["src/pullpush/reports/templates/report.html"])[:12]
    assert "tests/server/test_page.py" in quick.tests_of(["src/pullpush/server/page/app.js"])[:12]


def test_no_change_reaches_no_test():
    assert quick.tests_of([]) == []


def test_names_mark_the_tests_of_the_changed_module():
    names = quick.names_of(["src/pullpush/maths/losses/circle.py", "docs/concepts.md"])
    assert names == {"circle"}
    assert quick.bears("tests/maths/test_losses.py::test_value[circle-cosine]", names)
    assert not quick.bears("tests/maths/test_losses.py::test_value[arcface]@tests/circle", names)


def test_the_line_at_the_end_says_what_was_left_out():
    limit = quick.Limit(["a.py", "b.py"], 3, {"circle"})
    limit.known = {"a.py::test_circle", "a.py::test_other", "b.py::test_b"}
    limit.ran = {"a.py::test_circle"}
    assert str(limit).startswith("ran 1 of 3 tests of 2 files, 1 of 1 named circle, in ")
    assert str(limit).endswith("left out: 1 of a.py, 1 of b.py, 3 farther files")
