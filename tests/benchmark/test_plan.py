"""What is to be run: from flags, from TOML, and what cannot be run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful import Features, methods, save_features
from handful.benchmark.plan import Plan
from handful.benchmark.plan_file import read_plan
from handful.benchmark.plan_flags import numbers, words
from handful.datasets.sentences import SentenceRecord
from handful.errors import InputError


def features(path: Path, seed: int = 0, **more: Any) -> Path:
    rng = np.random.default_rng(seed)
    save_features(
        path,
        Features(rng.normal(size=(12, 6)), labels=np.tile([0, 1, 2], 4), **more),
    )
    return path


def with_sentences(path: Path, order: tuple[int, int]) -> Path:
    """Two sentences of each class, whose order some methods see, and no mean of them."""
    text = np.random.default_rng(5).normal(size=(3, 2, 6))[:, order]
    sentences = SentenceRecord(None, "", (2, 2, 2))
    return features(path, text_features=text, sentences=sentences, class_names=("a", "b", "c"))


def written(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return path


# -- runs ------------------------------------------------------------------------------------------


def test_left_out_means_all_methods_and_the_papers_numbers(tmp_path: Path) -> None:
    plan = Plan(features=(str(features(tmp_path / "a.safetensors")),))
    assert plan.methods == tuple(methods.names())
    assert (plan.shots, plan.seeds) == ((1, 2, 4, 8, 16), (1, 2, 3))
    assert (plan.protocol, plan.select) == ("coop", "val")
    (source,) = plan.sources()
    runs = plan.runs(source)
    assert list(runs) == [(k, s) for k in plan.shots for s in plan.seeds]
    every = [run for some in runs.values() for run in some]
    # The file has no features before the projection, which one method needs, and no correction.
    kinds = {m: methods.get(m) for m in plan.methods}
    served = [m for m, k in kinds.items() if not k.before_projection and not k.needs_correction]
    assert len({run.key for run in every}) == len(every) == 15 * len(served)
    assert {run.source for run in every} == {source.digest}


def test_settings_go_to_the_methods_that_have_them(tmp_path: Path) -> None:
    plan = Plan(
        features=(str(features(tmp_path / "a.safetensors")),),
        methods=("zero-shot", "tip-adapter", "tip-adapter-f"),
        settings={
            "all": {"blend": 3, "epochs": 5},
            "tip-adapter-f": {"epochs": 7, "lr": 0.01},
            "clip-adapter": {"blend": 0.5},  # not in this plan, and no harm
        },
    )
    (runs,) = [r for (k, s), r in plan.runs(plan.sources()[0]).items() if (k, s) == (1, 1)]
    assert {run.method: dict(run.settings) for run in runs} == {
        "zero-shot": {},
        "tip-adapter": {"blend": 3},
        "tip-adapter-f": {"blend": 3, "epochs": 7, "lr": 0.01},
    }
    plain = Plan(features=plan.features, methods=("tip-adapter",))
    assert plain.runs(plan.sources()[0])[1, 1][0].key != runs[1].key


def test_variants_are_every_combination(tmp_path: Path) -> None:
    """Beside the settings that all variants share; other methods run once."""
    plan = Plan(
        features=(str(features(tmp_path / "a.safetensors")),),
        methods=("zero-shot", "clip-adapter"),
        settings={"all": {"blend": 0.3, "lr": 0.01}, "clip-adapter": {"epochs": 5}},
        variants={
            "clip-adapter": {"branch": ["visual", "text"], "blend": [0, 0.5, 0.5]},
            "tip-adapter": {"blend": [1, 2]},  # not in this plan, and no harm
        },
    )
    for runs in plan.runs(plan.sources()[0]).values():
        assert [(run.method, dict(run.settings)) for run in runs] == [
            ("zero-shot", {}),
            *(
                ("clip-adapter", {"lr": 0.01, "epochs": 5, "branch": branch, "blend": blend})
                for branch in ("visual", "text")
                for blend in (0, 0.5)
            ),
        ]
        assert len({run.key for run in runs}) == 5


def test_variants_from_a_file(tmp_path: Path) -> None:
    text = 'features = ["a"]\nmethods = ["clip-adapter"]\n[variants.clip-adapter]\nblend = [0, 1.0]'
    assert read_plan(written(tmp_path, text)).variants == {"clip-adapter": {"blend": [0, 1.0]}}


def test_a_source_is_its_contents(tmp_path: Path) -> None:
    """Whatever it is called; and whatever changes a result makes another source of it."""
    a = features(tmp_path / "a.safetensors")
    same = shutil.copy(a, tmp_path / "same.safetensors")
    digests = {
        Plan((str(path),)).sources()[0].digest
        for path in (
            a,
            same,
            features(tmp_path / "b.safetensors", seed=1),
            features(tmp_path / "c.safetensors", logit_scale=20.0),
            features(tmp_path / "d.safetensors", class_embeddings=np.eye(3, 6)),
            features(tmp_path / "e.safetensors", split=np.repeat([0, 2], 6)),
            features(tmp_path / "f.safetensors", view_features=np.ones((12, 1, 6))),
            with_sentences(tmp_path / "g.safetensors", order=(0, 1)),
            with_sentences(tmp_path / "h.safetensors", order=(1, 0)),
        )
    }
    assert len(digests) == 8
    with pytest.raises(InputError, match="same is the same as a: leave one of them out"):
        Plan((str(a), str(same))).sources()
    (tmp_path / "folder").mkdir()
    other = features(tmp_path / "folder" / "a.safetensors", seed=1)
    with pytest.raises(InputError, match="two sources are called 'a': rename one of the files"):
        Plan((str(a), str(other))).sources()


# -- TOML ------------------------------------------------------------------------------------------


def test_a_plan_from_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    folder.mkdir()
    absolute = tmp_path / "elsewhere" / "b.safetensors"
    plan = read_plan(
        written(
            folder,
            f"""
            features = ["a.safetensors", "../c.safetensors", {str(absolute)!r}]
            images = ["photos", "coop:split.json@root"]
            encoder = "lite"
            templates = ["a {{}}."]
            methods = ["zero-shot", "tip-adapter"]
            shots = [1, 4]
            seeds = [2]
            protocol = "whu"
            select = "cv"
            [settings.all]
            blend = 0.4
            """,
        )
    )
    assert plan.features == (
        str(folder / "a.safetensors"),
        str(folder / "../c.safetensors"),
        str(absolute),
    )
    assert plan.images == (str(folder / "photos"), "coop:split.json@root")
    assert (plan.encoder, plan.templates) == ("lite", ("a {}.",))
    assert plan.methods == ("zero-shot", "tip-adapter")
    assert (plan.shots, plan.seeds) == ((1, 4), (2,))
    assert (plan.protocol, plan.select) == ("whu", "cv")
    assert plan.settings == {"all": {"blend": 0.4}}


def test_flags_replace_what_the_file_says(tmp_path: Path) -> None:
    path = written(tmp_path, 'features = ["a.safetensors"]\nshots = [1]\nprotocol = "whu"\n')
    plan = read_plan(path, features=("b",), shots=(2, 4), protocol=None, select="cv")
    assert plan.features == ("b",)  # as typed: it starts from where the command runs
    assert (plan.shots, plan.protocol, plan.select) == ((2, 4), "whu", "cv")


@pytest.mark.parametrize("away", [True, False])
def test_paths_start_from_the_folder_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    features(tmp_path / "a.safetensors")
    written(tmp_path, 'features = ["a.safetensors"]')
    monkeypatch.chdir("/" if away else tmp_path)
    path = Path(os.path.relpath(tmp_path / "plan.toml"))
    assert [source.name for source in read_plan(path).sources()] == ["a"]


PLAN = 'features = ["a"]\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("features = [", "cannot be read"),
        (PLAN + 'shot = [1]\n', "has the key 'shot': expected features, .*Did you mean 'shots'"),
        ('features = "a"\n', "features in the plan .* is 'a': expected a list of texts"),
        ("features = [3]\n", r"is \[3\]: expected a list of texts"),
        (PLAN + 'methods = "zero-shot"\n', "methods in .*expected a list of texts"),
        (PLAN + 'templates = "a {}"\n', "templates in .*expected a list of texts"),
        (PLAN + "encoder = 3\n", "encoder in .* is 3: expected a text"),
        (PLAN + 'select = ["cv"]\n', r"select in .* is \['cv'\]: expected a text"),
        (PLAN + 'protocol = "co op"\n', "no protocol 'co op'.*'coop'"),
        (PLAN + 'shots = "1-4"\n', "shots in .* is '1-4': expected a list of whole numbers"),
        (PLAN + "shots = [1.5]\n", r"shots in .* is \[1.5\]"),
        (PLAN + "seeds = [true]\n", r"seeds in .* is \[True\]: expected a list of whole numbers"),
        (PLAN + "seeds = 1\n", "seeds in .* is 1"),
        (PLAN + "settings = 3\n", r"settings in .* is 3: expected tables, such as \[settings.all"),
        (PLAN + "[settings]\nblend = 3\n", "settings in .*expected tables"),
        (PLAN + "[settings.tip]\nblend = 3\n", "no method 'tip'"),
        (PLAN + "[settings.tip-adapter]\nblent = 3\n", "no setting 'blent'. Did you mean 'blend'"),
        (PLAN + '[settings.tip-adapter]\nblend = "3"\n', "setting 'blend' .* is '3'"),
        (PLAN + "[settings.tip-adapter]\nblend = [3]\n", r"setting 'blend' .* is \[3\]"),
        (PLAN + "[settings.all]\nblent = 3\n", "no method of this plan has the setting 'blent'"),
        (PLAN + "variants = 3\n", r"variants in .* is 3: expected tables of lists, such as \[var"),
        (PLAN + "[variants]\nblend = [3]\n", "variants in .* expected tables of lists"),
        (PLAN + "[variants.clip-adapter]\nblend = 0.2\n", "variants in .* expected tables of list"),
        (PLAN + "[variants.clip-adapter]\nblend = []\n", "variants in .* expected tables of list"),
        (PLAN + "[variants.clip-adapter]\nblend = [0.2, 3]\n", "setting 'blend' .* is 3"),
        (PLAN + "[variants.clip-adapter]\nblent = [0.2]\n", "no setting 'blent'. Did you mean 'bl"),
        (PLAN + "[variants.all]\nblend = [0.2]\n", "no method 'all'"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_followed(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        read_plan(written(tmp_path, text))
    assert "\n" not in str(error.value)
    assert str(error.value).endswith((".", "?"))


def test_a_plan_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    for path in (tmp_path / "no.toml", tmp_path):
        with pytest.raises(InputError, match=f"the plan {path} cannot be read"):
            read_plan(path)
    (tmp_path / "plan.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(tmp_path / "plan.toml")


# -- what cannot be run ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"features": ()}, r"nothing to run on: give --features FILE\.safetensors, or --images"),
        ({"protocol": "who"}, r"no protocol 'who'\. Did you mean 'whu'\? Use one of coop, whu, "),
        ({"select": "vla"}, r"no selection policy 'vla'\. Did you mean 'val'\? Use one of val, cv"),
        ({"shots": ()}, r"shots are \[\]: expected numbers from 1"),
        ({"shots": tuple(range(99))}, r"shots are \[0, 1, .*, 9, …\]: expected numbers from 1"),
        ({"shots": (0, 1)}, r"shots are \[0, 1\]: expected numbers from 1"),
        ({"seeds": (-1,)}, r"seeds are \[-1\]: expected numbers from 0"),
        ({"seeds": (2**32,)}, r"seeds are \[4294967296\]: expected numbers from 0 to 4294967295"),
        ({"methods": ()}, "no method to run: name some of"),
        ({"methods": ("tip-adaptor",)}, "no method 'tip-adaptor'. Did you mean 'tip-adapter'"),
    ],
)
def test_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Plan(**{"features": ("a",), **given})


def test_zero_is_a_seed() -> None:
    assert Plan(("a",), seeds=(0,)).seeds == (0,)


# -- flags -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", (1,)),
        ("1,2,4", (1, 2, 4)),
        (" 1, 2 ", (1, 2)),
        ("1-3", (1, 2, 3)),
        ("1-3,8,2", (1, 2, 3, 8)),
    ],
)
def test_numbers(text: str, expected: tuple[int, ...]) -> None:
    assert numbers(text, "shots") == expected


@pytest.mark.parametrize("text", ["", "all", "1,", "1-", "-1", "3-1", "1.5", "1;2", "1-2-3"])
def test_no_numbers(text: str) -> None:
    with pytest.raises(InputError) as error:
        numbers(text, "shots")
    assert str(error.value) == f"--shots is '{text}': expected numbers such as 1,2,4 or 1-3."


@pytest.mark.parametrize("text", ["1-1000000000", "3,0-10000", f"5-{10**30}"])
def test_a_range_is_not_endless(text: str) -> None:
    assert len(numbers("0-9999", "seeds")) == 10_000
    with pytest.raises(InputError) as error:
        numbers(text, "seeds")
    told = f"--seeds has the range {text.rpartition(',')[2]}: expected 10,000 numbers at most."
    assert str(error.value) == told


def test_words() -> None:
    assert words(["a, b", "c", "d,,"]) == ("a", "b", "c", "d")
