"""FewShotTask: what a method may see, and shapes that disagree."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from handful import FewShotTask, InputError

X, Y = np.ones((4, 6)), np.array([0, 0, 1, 1])


def test_there_is_no_place_for_test_images() -> None:
    """What selection is given is all that it can use."""
    assert [field.name for field in dataclasses.fields(FewShotTask)] == [
        "X",
        "y",
        "X_val",
        "y_val",
        "class_embeddings",
        "class_names",
        "logit_scale",
        "views",
        "groups",
        "prompts",
        "widths",
        "projection",
        "corrected",
    ]


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FewShotTask(X, Y).X = X  # type: ignore[misc]


def test_lists_become_arrays() -> None:
    task = FewShotTask(X.tolist(), Y.tolist(), groups=[0, 0, 1, 2])  # type: ignore[arg-type]
    assert task.X.shape == (4, 6) and task.y.shape == task.groups.shape == (4,)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"X": np.ones(4)}, r"support features have shape \(4,\): expected \(N, D\)\."),
        ({"y": Y[:3]}, r"there are 4 support features, but labels of shape \(3,\)\."),
        ({"X_val": X}, "validation features and labels go together: give both or neither"),
        ({"y_val": Y}, "validation features and labels go together: give both or neither"),
        (
            {"X_val": X[:, :5], "y_val": Y},
            r"validation features have shape \(4, 5\): expected \(M, 6\)\.",
        ),
        ({"X_val": X, "y_val": Y[:1]}, r"there are 4 validation features but labels of shape"),
        ({"X_val": X[:0], "y_val": Y[:0]}, "(?i)no validation|empty|at least one"),
        ({"X": X[:0], "y": Y[:0]}, "(?i)no support|empty|at least one"),
        ({"class_embeddings": np.ones((2, 5))}, r"class embeddings have shape \(2, 5\): expected"),
        ({"class_embeddings": np.ones(6)}, r"class embeddings have shape \(6,\): expected"),
        (
            {"class_embeddings": np.ones((2, 6)), "class_names": ["a", "b", "c"]},
            "2 class embeddings.*3|3 .*2 class embeddings",
        ),
        ({"views": np.ones((4, 6))}, r"views have shape \(4, 6\): expected \(4, V, 6\)\."),
        ({"views": np.ones((3, 2, 6))}, r"views have shape \(3, 2, 6\): expected \(4, V, 6\)\."),
        ({"widths": (2, 3)}, r"widths are \(2, 3\), but the support features have width 6: exp"),
        ({"widths": (6,)}, r"widths are \(6,\).*: expected those of two or more encoders"),
        ({"widths": (6, 0)}, r"widths are \(6, 0\)"),
        (
            {"widths": (2, 4), "class_embeddings": np.ones((2, 6))},
            r"shape \(2, 6\): expected \(C, 2\) or \(C, T, 2\), the .* of the first encoder\.",
        ),
        (
            {
                "widths": (2, 4),
                "class_embeddings": np.ones((2, 2)),
                "prompts": np.ones((2, 3, 6)),
            },
            r"prompts have shape \(2, 3, 6\): expected \(C, T, 2\)",
        ),
        ({"projection": np.ones(6)}, r"the projection has shape \(6,\): expected \(6, D\), from "),
        ({"projection": np.ones((4, 6))}, r"shape \(4, 6\): expected \(6, D\)"),
        ({"projection": np.ones((6, 0))}, r"shape \(6, 0\): expected \(6, D\)"),
        ({"projection": np.ones((6, 4)), "widths": (2, 4)}, "support features of one encoder"),
        (
            {"projection": np.ones((6, 4)), "class_embeddings": np.ones((2, 6))},
            r"shape \(2, 6\): expected \(C, 4\) or \(C, T, 4\), the .* behind the projection\.",
        ),
        (
            {
                "projection": np.ones((6, 4)),
                "class_embeddings": np.ones((2, 4)),
                "prompts": np.ones((2, 3, 6)),
            },
            r"prompts have shape \(2, 3, 6\): expected \(C, T, 4\)",
        ),
        ({"groups": np.ones(3, int)}, r"groups have shape \(3,\): expected \(4,\)\."),
    ],
)
def test_shapes_that_disagree_are_refused_in_one_sentence(
    given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        FewShotTask(**{"X": X, "y": Y, **given})
    assert "\n" not in str(caught.value)


def test_what_a_head_takes_from_a_task() -> None:
    text = np.ones((2, 6))
    task = FewShotTask(X, Y, class_embeddings=text, class_names=["a", "b"], logit_scale=20.0)
    arguments = task.head_arguments()
    assert arguments["class_embeddings"] is task.class_embeddings
    assert arguments["class_names"] == ["a", "b"]
    assert arguments["logit_scale"] == 20.0


def test_several_encoders_tell_heads_their_widths_and_one_does_not() -> None:
    assert "widths" not in FewShotTask(X, Y).head_arguments()
    task = FewShotTask(X, Y, widths=[2, 4])  # type: ignore[arg-type]
    assert task.head_arguments()["widths"] == (2, 4)


def test_the_first_encoder_alone() -> None:
    numbers = np.arange(24.0).reshape(4, 6)
    task = FewShotTask(
        numbers,
        Y,
        numbers + 100,
        Y,
        class_embeddings=np.ones((2, 2)),
        views=numbers[:, None],
        groups=np.array([0, 0, 1, 2]),
        widths=(2, 4),
    )
    first = task.of_first_encoder()
    np.testing.assert_array_equal(first.X, numbers[:, :2])
    np.testing.assert_array_equal(first.X_val, numbers[:, :2] + 100)  # type: ignore[arg-type]
    np.testing.assert_array_equal(first.views, numbers[:, None, :2])  # type: ignore[arg-type]
    assert first.groups is task.groups and first.class_embeddings is task.class_embeddings
    assert first.widths is None and first.of_first_encoder() is first


def test_a_projection_goes_to_heads_and_can_be_applied() -> None:
    assert "projection" not in FewShotTask(X, Y).head_arguments()
    numbers, projection = np.arange(24.0).reshape(4, 6), np.eye(6)[:, :2] + 1
    task = FewShotTask(
        numbers,
        Y,
        numbers + 100,
        Y,
        class_embeddings=np.ones((2, 2)),
        views=numbers[:, None],
        projection=projection,
    )
    assert task.head_arguments()["projection"] is task.projection
    behind = task.projected()
    np.testing.assert_array_equal(behind.X, numbers @ projection)
    np.testing.assert_array_equal(behind.X_val, (numbers + 100) @ projection)  # type: ignore[arg-type]
    np.testing.assert_array_equal(behind.views, (numbers @ projection)[:, None])  # type: ignore[arg-type]
    assert behind.projection is None and behind.projected() is behind


def test_the_original_features_alone() -> None:
    numbers = np.arange(24.0).reshape(4, 6)
    task = FewShotTask(
        numbers,
        Y,
        numbers + 100,
        Y,
        class_embeddings=np.ones((2, 3)),
        views=numbers[:, None],
        groups=np.array([0, 0, 1, 2]),
        prompts=np.ones((2, 5, 3)),
        corrected=True,
    )
    first = task.original()
    np.testing.assert_array_equal(first.X, numbers[:, :3])
    np.testing.assert_array_equal(first.X_val, numbers[:, :3] + 100)  # type: ignore[arg-type]
    np.testing.assert_array_equal(first.views, numbers[:, None, :3])  # type: ignore[arg-type]
    assert first.groups is task.groups and first.class_embeddings is task.class_embeddings
    assert not first.corrected and first.original() is first
    np.testing.assert_array_equal(task.in_text_space().X, first.X)


@pytest.mark.parametrize(
    "given",
    [
        {"X": np.ones((4, 5))},
        {"widths": (2, 4)},
        {"projection": np.ones((6, 3))},
    ],
)
def test_corrected_features_are_two_halves_of_one_encoder(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"original and corrected ones of one encoder side by"):
        FewShotTask(**{"X": X, "y": Y, "corrected": True, **given})


@pytest.mark.parametrize("part", ["class_embeddings", "prompts"])
def test_text_beside_corrected_features_is_half_as_wide(part: str) -> None:
    text = {"class_embeddings": np.ones((2, 3)), part: np.ones((2, 1, 6))}
    with pytest.raises(InputError, match=r"expected \(C, (T, )?3\)"):
        FewShotTask(X, Y, corrected=True, **text)
    assert "corrected" not in FewShotTask(X, Y, corrected=True).head_arguments()
