"""What ``evaluate`` says, against scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, recall_score

from handful.evaluation.calibration import calibration_error
from handful.evaluation.interval import accuracy_interval
from handful.evaluation.report import Evaluation, evaluate_probabilities

NAMES = ["dam", "fish", "hammer", "pliers", "windmill"]
RNG = np.random.default_rng(0)
LABELS = RNG.choice(4, size=200, p=[0.5, 0.3, 0.15, 0.05])  # there are no windmills
PROBABILITIES = RNG.dirichlet(np.ones(5), size=200)
PROBABILITIES[np.arange(200), LABELS] += 0.4
PROBABILITIES /= PROBABILITIES.sum(axis=1, keepdims=True)
PREDICTED = PROBABILITIES.argmax(axis=1)


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return evaluate_probabilities(PROBABILITIES, LABELS, NAMES)


def test_accuracy_and_its_interval(found: Evaluation) -> None:
    assert found.n == 200
    assert found.accuracy == pytest.approx(accuracy_score(LABELS, PREDICTED))
    assert (found.low, found.high) == accuracy_interval(found.accuracy, 200)


def test_recall_of_the_classes_that_have_images(found: Evaluation) -> None:
    assert [c.label for c in found.per_class] == NAMES[:4]
    expected = recall_score(LABELS, PREDICTED, labels=range(4), average=None)
    assert [c.recall for c in found.per_class] == pytest.approx(list(expected))
    assert [c.n for c in found.per_class] == np.bincount(LABELS).tolist()


def test_confusions_are_the_cells_off_the_diagonal_largest_first(found: Evaluation) -> None:
    matrix = confusion_matrix(LABELS, PREDICTED, labels=range(5))
    np.fill_diagonal(matrix, 0)
    cells = {(c.label, c.predicted): c.n for c in found.confusions}
    assert len(cells) == len(found.confusions)
    assert cells == {
        (NAMES[i], NAMES[j]): int(matrix[i, j]) for i, j in zip(*matrix.nonzero(), strict=True)
    }
    counts = [c.n for c in found.confusions]
    assert counts == sorted(counts, reverse=True)


def test_losses(found: Evaluation) -> None:
    expected = log_loss(LABELS, PROBABILITIES, labels=range(5))
    assert found.negative_log_likelihood == pytest.approx(expected)
    assert found.calibration_error == calibration_error(PROBABILITIES, LABELS)


def test_a_certain_mistake_costs_much_but_not_infinity() -> None:
    found = evaluate_probabilities(np.array([[1.0, 0.0]]), np.array([1]), ["a", "b"])
    assert 20 < found.negative_log_likelihood < np.inf
    assert found.accuracy == found.low == 0


def test_everything_right() -> None:
    found = evaluate_probabilities(np.eye(3), np.arange(3), ["a", "b", "c"])
    assert found.accuracy == found.high == 1
    assert found.confusions == ()
    assert all(c.recall == 1 for c in found.per_class)


def test_as_json(found: Evaluation) -> None:
    plain = found.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == json.loads(json.dumps(plain))
    assert {"accuracy", "n", "per_class", "calibration_error", "confusions"} <= plain.keys()
    assert plain["interval"] == [found.low, found.high]
    assert plain["per_class"][0].keys() == {"label", "recall", "n"}
    assert plain["confusions"][0].keys() == {"label", "predicted", "n"}


def test_nothing_to_evaluate_is_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        evaluate_probabilities(np.ones((0, 3)), np.zeros(0, int), ["a", "b", "c"])
