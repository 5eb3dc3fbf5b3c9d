"""Adapters inside a tower, on tiny models of several families and against the published ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from oracles import assert_agree
from safetensors.torch import load_file
from torch import Tensor, nn

from handful.errors import InputError
from handful.tuning.bottlenecks import FORMS, Bottleneck
from handful.tuning.injected import MODES, Injected

N, WIDTH, HIDDEN = 3, 32, 5
EPS = 1e-6  # what a change of nothing may be: the order of a sum


@pytest.fixture(params=["clip-image", "clip-text", "siglip-image", "siglip-text", "bert"])
def tower(request: pytest.FixtureRequest) -> SimpleNamespace:
    """``blocks`` of a tower of three, and ``run()``, which gives its features."""
    import transformers as t

    small = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": N}
    small |= {"num_attention_heads": 4}
    ids = {"bos_token_id": 1, "eos_token_id": 19, "pad_token_id": 0, "vocab_size": 20}
    torch.manual_seed(3)
    pixels = torch.randn(4, 3, 16, 16)
    texts = torch.tensor([[1, 5, 6, 19], [1, 7, 3, 19]])
    family, _, side = request.param.partition("-")
    if family == "bert":
        model: Any = t.BertModel(t.BertConfig(**small, vocab_size=20))
        blocks, run = model.encoder.layer, lambda: model(texts).last_hidden_state
    elif family == "clip":
        vision, text = small | {"image_size": 16, "patch_size": 8}, small | ids
        config = t.CLIPConfig(vision_config=vision, text_config=text, projection_dim=24)
        model = t.CLIPModel(config)
    else:
        vision, text = small | {"image_size": 16, "patch_size": 8}, small | {"vocab_size": 20}
        text |= {"projection_size": WIDTH, "max_position_embeddings": 4}
        model = t.SiglipModel(t.SiglipConfig(vision_config=vision, text_config=text))
    model.eval().requires_grad_(False)
    for parameter in model.parameters():
        # Away from the small random start, where attention gives next to nothing.
        parameter.add_(0.2 * torch.randn_like(parameter))
    if side == "image":
        blocks = model.vision_model.encoder.layers
        run = lambda: model.get_image_features(pixels).pooler_output  # noqa: E731
    elif side == "text":
        blocks = model.text_model.encoder.layers
        run = lambda: model.get_text_features(texts).pooler_output  # noqa: E731
    return SimpleNamespace(model=model, blocks=blocks, run=run)


def shake(injected: Injected) -> Injected:
    """Give all weights some value, as training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in injected.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return injected


every_mode = pytest.mark.parametrize("mode", MODES)


@every_mode
def test_it_starts_as_the_tower(tower: SimpleNamespace, mode: str) -> None:
    before = tower.run()
    injected = Injected(tower.blocks, mode, range(N), width=HIDDEN, norms=True)
    torch.testing.assert_close(tower.run(), before, rtol=0, atol=EPS)
    shake(injected)
    assert (tower.run() - before).abs().max() > 1e-2  # the hooks are in place


@every_mode
@pytest.mark.parametrize("form", FORMS)
def test_scale_zero_changes_nothing(tower: SimpleNamespace, mode: str, form: str) -> None:
    before = tower.run()
    shake(Injected(tower.blocks, mode, range(N), width=HIDDEN, scale=0.0, form=form))
    torch.testing.assert_close(tower.run(), before, rtol=0, atol=EPS)


@every_mode
def test_off_and_removed_are_the_tower_bit_for_bit(tower: SimpleNamespace, mode: str) -> None:
    parameters = {name: p.clone() for name, p in tower.model.state_dict().items()}
    before = tower.run()
    injected = shake(Injected(tower.blocks, mode, range(N), width=HIDDEN, norms=True))
    changed = tower.run()
    with injected.switched(False):
        assert torch.equal(tower.run(), before)
        with injected.switched(True):
            assert torch.equal(tower.run(), changed)
        assert not injected.on
    assert torch.equal(tower.run(), changed)  # on again, and the same
    injected.remove()
    assert torch.equal(tower.run(), before)
    assert tower.model.state_dict().keys() == parameters.keys()
    assert all(torch.equal(p, parameters[name]) for name, p in tower.model.state_dict().items())


def test_a_switch_inside_a_failed_forward_is_undone(tower: SimpleNamespace) -> None:
    injected = shake(Injected(tower.blocks, "parallel", [1], width=HIDDEN))
    changed = tower.run()
    with pytest.raises(ZeroDivisionError), injected.switched(False):
        1 / 0  # noqa: B018
    assert torch.equal(tower.run(), changed)


def test_a_forward_that_broke_off_leaves_nothing_behind(tower: SimpleNamespace) -> None:
    """The parallel adapter keeps its result until the MLP is done."""
    before = tower.run()
    injected = shake(Injected(tower.blocks, "parallel", [0], width=HIDDEN))
    changed = tower.run()
    inside = tower.blocks[0].mlp if hasattr(tower.blocks[0], "mlp") else tower.blocks[0].output
    broken = inside.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tower.run()
    broken.remove()
    with injected.switched(False):
        assert torch.equal(tower.run(), before)
    assert torch.equal(tower.run(), changed)


@every_mode
def test_gradients_reach_the_adapters_and_nothing_else(tower: SimpleNamespace, mode: str) -> None:
    injected = shake(Injected(tower.blocks, mode, [0, 2], width=HIDDEN, norms=True))
    tower.run().square().sum().backward()
    for name, parameter in injected.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert all(p.grad is None for p in tower.model.parameters())


@every_mode
def test_zero_up_learns_at_the_first_step(tower: SimpleNamespace, mode: str) -> None:
    injected = Injected(tower.blocks, mode, [1], width=HIDDEN)
    tower.run().square().sum().backward()
    ups = [p for name, p in injected.named_parameters() if "up.weight" in name]
    assert ups
    assert all(p.grad.abs().max() > 0 for p in ups)


@every_mode
def test_number_of_parameters(tower: SimpleNamespace, mode: str) -> None:
    def numbers(**more: Any) -> int:
        made = Injected(tower.blocks, mode, [0, 2], width=HIDDEN, **more)
        made.remove()
        return sum(p.numel() for p in made.parameters())

    one = 2 * WIDTH * HIDDEN + HIDDEN + WIDTH  # two layers with biases
    expected = {"houlsby": 2 * 2 * one, "parallel": 2 * one}
    assert numbers() == expected.get(mode, 2 * 2 * WIDTH * HIDDEN)
    assert numbers(norms=True) - numbers() == 2 * 4 * WIDTH


def test_number_of_parameters_of_the_papers() -> None:
    """ViT-B/16: IMO's adapter (r = 64) and the rows of CLIP-Adapter's Table 2 (H = 512)."""
    import transformers as t

    with torch.device("meta"):
        blocks = t.CLIPVisionModel(t.CLIPVisionConfig()).encoder.layers
    assert (len(blocks), blocks[0].embed_dim) == (12, 768)  # what the defaults are

    def numbers(mode: str, layers: Any, width: int, **more: Any) -> int:
        made = Injected(blocks, mode, layers, width=width, **more)
        return sum(p.numel() for p in made.parameters())

    end = {"end": nn.Identity(), "features": 512}
    assert numbers("parallel", range(12), 64) == 12 * 99_136 == 1_189_632
    for place in (0, 2, 4, 6, 8, 10):
        inner = numbers("clip-adapter-inner", [place], 512, **end)
        assert inner == 786_432  # 0.78 M in the paper
    assert numbers("clip-adapter-inner", [12], 512, **end) == 524_288  # 0.52 M
    seven = numbers("clip-adapter-inner", range(0, 13, 2), 512, **end)
    assert seven == 5_242_880  # 5.20 M


@pytest.fixture(scope="module")
def imo(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "data" / "oracles" / "imo.safetensors")


def fill(injected: Injected, given: dict[str, Tensor]) -> Injected:
    adapter = next(iter(injected.adapters.values()))
    names = {f"{n.replace('.', '_')}": p for n, p in adapter.named_parameters()}
    with torch.no_grad():
        for name, parameter in names.items():
            parameter.copy_(given[name])
    return injected


@pytest.mark.parametrize("scale", [0.03, 0.1])
def test_parallel_is_the_published_adapter_and_block(imo: dict[str, Tensor], scale: float) -> None:
    import transformers as t
    from transformers.models.clip.modeling_clip import CLIPEncoderLayer

    config = t.CLIPVisionConfig(
        hidden_size=128, intermediate_size=512, num_attention_heads=4, hidden_act="quick_gelu"
    )
    config._attn_implementation = "eager"
    block = CLIPEncoderLayer(config).eval()
    q, k, v = imo["block_attn_in_weight"].chunk(3)
    q_bias, k_bias, v_bias = imo["block_attn_in_bias"].chunk(3)
    weights = {
        "self_attn.q_proj.weight": q,
        "self_attn.q_proj.bias": q_bias,
        "self_attn.k_proj.weight": k,
        "self_attn.k_proj.bias": k_bias,
        "self_attn.v_proj.weight": v,
        "self_attn.v_proj.bias": v_bias,
    }
    for ours, theirs in (
        ("self_attn.out_proj", "attn_out"),
        ("layer_norm1", "ln1"),
        ("layer_norm2", "ln2"),
        ("mlp.fc1", "fc"),
        ("mlp.fc2", "proj"),
    ):
        for part in ("weight", "bias"):
            weights[f"{ours}.{part}"] = imo[f"block_{theirs}_{part}"]
    block.load_state_dict(weights)
    tokens = imo["tokens"].transpose(0, 1)  # (batch, sequence, width)

    def close(ours: Tensor, name: str) -> None:
        assert_agree(ours.detach().transpose(0, 1), imo[name])

    close(block(tokens, None), "block_out_plain")
    injected = Injected(nn.ModuleList([block]), "parallel", [0], width=16, scale=scale)
    fill(injected, imo)
    adapter = injected.adapters["0-mlp"]
    close(adapter(tokens), f"adapter_out_s{scale:g}")
    close(block(tokens, None), f"block_out_adapter_s{scale:g}")
    # At 0.03 the adapter adds little: the tolerance must tell its place and its scale.
    plain = imo["block_out_plain"]
    difference = (imo[f"block_out_adapter_s{scale:g}"] - plain).abs().max()
    assert difference > 10 * 1e-4 * plain.abs().max()
    with injected.switched(False):
        close(block(tokens, None), "block_out_plain")


def clip_blocks(count: int = 2) -> nn.ModuleList:
    import transformers as t
    from transformers.models.clip.modeling_clip import CLIPEncoderLayer

    config = t.CLIPVisionConfig(hidden_size=WIDTH, intermediate_size=48, num_attention_heads=4)
    torch.manual_seed(5)
    made = nn.ModuleList(CLIPEncoderLayer(config) for _ in range(count))
    return made.eval().requires_grad_(False)


def run(blocks: nn.ModuleList, states: Tensor, start: int = 0) -> Tensor:
    for block in list(blocks)[start:]:
        states = block(states, None)
    return states


def written_out(adapter: Any, h: Tensor) -> Tensor:
    middle = torch.relu(nn.functional.linear(h, adapter.down.weight, adapter.down.bias))
    return adapter.scale * nn.functional.linear(middle, adapter.up.weight, adapter.up.bias)


@pytest.mark.parametrize("norms", [False, True])
def test_houlsby_is_its_equation(norms: bool) -> None:
    blocks, h = clip_blocks(1), torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    block: Any = blocks[0]
    injected = Injected(blocks, "houlsby", [0], width=HIDDEN, scale=0.7, norms=norms)
    shake(injected)
    ours = run(blocks, h)
    injected.remove()
    adapters = injected.adapters
    norm1, norm2 = injected.norms.values() if norms else (block.layer_norm1, block.layer_norm2)
    attention = block.self_attn(norm1(h), None)[0]
    h = h + attention + written_out(adapters["0-attention"], attention)
    mlp = block.mlp(norm2(h))
    theirs = h + mlp + written_out(adapters["0-mlp"], mlp)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_houlsby_and_parallel_in_bert_are_their_equations() -> None:
    """BERT norms after the residual sum: the sub-layer's output is that of its last dense layer."""
    import transformers as t
    from transformers.models.bert.modeling_bert import BertLayer

    config = t.BertConfig(hidden_size=WIDTH, intermediate_size=48, num_attention_heads=4)
    config._attn_implementation = "eager"
    torch.manual_seed(5)
    block: Any = BertLayer(config).eval().requires_grad_(False)
    h = torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    for mode in ("houlsby", "parallel"):
        injected = Injected(nn.ModuleList([block]), mode, [0], width=HIDDEN, scale=0.7)
        shake(injected)
        ours = block(h)
        injected.remove()
        adapters = injected.adapters
        attention = block.attention.output.dense(block.attention.self(h)[0])
        if mode == "houlsby":
            attention = attention + written_out(adapters["0-attention"], attention)
        middle = block.attention.output.LayerNorm(h + attention)
        mlp = block.output.dense(block.intermediate(middle))
        mlp = mlp + written_out(adapters["0-mlp"], mlp if mode == "houlsby" else middle)
        theirs = block.output.LayerNorm(middle + mlp)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_clip_adapter_between_blocks_is_its_equation(form: str) -> None:
    blocks, h = clip_blocks(), torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    z = torch.randn(6, 24, generator=torch.Generator().manual_seed(2))
    end = {"end": nn.Identity(), "features": 24}
    injected = Injected(
        blocks, "clip-adapter-inner", [0, 1, 2], width=HIDDEN, scale=0.3, form=form, **end
    )
    shake(injected)
    ours, left = run(blocks, h), end["end"](z)
    with injected.switched(False):
        assert torch.equal(end["end"](z), z)
    injected.remove()

    def changed(states: Tensor, place: int) -> Tensor:
        layers: Any = injected.adapters[str(place)]
        u1, u2 = layers.layers.down.weight, layers.layers.up.weight
        if form == "blend":
            new = torch.relu(torch.relu(states @ u1.T) @ u2.T)
            return 0.3 * new + 0.7 * states
        centred = states - states.mean(-1, keepdim=True)
        normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return states + 0.3 * (torch.relu(normed @ u1.T) @ u2.T)

    first = blocks[0](changed(h, 0), None)
    theirs = blocks[1](changed(first, 1), None)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    torch.testing.assert_close(left, changed(z, 2), rtol=0, atol=1e-5)


def test_the_blend_of_the_paper_starts_off_the_base_and_can_learn() -> None:
    blocks, h = clip_blocks(1), torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    before = run(blocks, h)
    injected = Injected(blocks, "clip-adapter-inner", [0], width=HIDDEN, scale=0.2, form="blend")
    after = run(blocks, h)
    assert (after - before).abs().max() > 1e-2
    after.square().sum().backward()
    for name, parameter in injected.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_states_can_be_named_arguments() -> None:
    blocks, h = clip_blocks(1), torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    shake(Injected(blocks, "clip-adapter-inner", [0], width=HIDDEN))
    named = blocks[0](hidden_states=h, attention_mask=None)
    assert torch.equal(run(blocks, h), named)


@every_mode
def test_nothing_changes_before_the_first(mode: str) -> None:
    """What enters block ``first`` may be computed once and kept."""
    blocks, h = clip_blocks(4), torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    before = [h]
    for block in blocks:
        before.append(block(before[-1], None))
    injected = shake(Injected(blocks, mode, [3, 2], width=HIDDEN))
    assert injected.first == 2
    whole = run(blocks, h)
    assert torch.equal(run(blocks, before[2], start=2), whole)
    assert (whole - before[4]).abs().max() > 1e-2
    with injected.switched(False):  # both spaces, one computation of the first two blocks
        assert torch.equal(run(blocks, before[2], start=2), before[4])


def test_norms_are_those_of_blocks_where_the_place_is_behind_them_all() -> None:
    more: dict[str, Any] = {"end": nn.Identity(), "features": 24, "norms": True}
    injected = Injected(clip_blocks(), "clip-adapter-inner", [1, 2], width=HIDDEN, **more)
    assert sorted(injected.norms) == ["1-1", "1-2"]


def test_the_start_depends_on_the_seed_alone() -> None:
    def downs(seed: int) -> list[Tensor]:
        made = Injected(clip_blocks(), "parallel", [0, 1], width=HIDDEN, seed=seed)
        return [p.detach() for name, p in made.named_parameters() if "down.weight" in name]

    blocks = clip_blocks()
    state = torch.get_rng_state()
    Injected(blocks, "houlsby", [0], width=HIDDEN, norms=True)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone
    one, same, other = downs(1), downs(1), downs(2)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], one[1])
    bound = WIDTH**-0.5
    assert 0.9 * bound < max(float(p.abs().max()) for p in one) <= bound


def test_dropout_is_active_in_training_only() -> None:
    generator = torch.Generator().manual_seed(0)
    layers = Bottleneck(WIDTH, 64, scale=1.0, generator=generator, dropout=0.5)
    with torch.no_grad():
        layers.up.weight.normal_(generator=generator)
    h = torch.randn(3, WIDTH, generator=generator)
    layers.eval()
    assert torch.equal(layers(h), layers(h))
    layers.train()
    assert not torch.equal(layers(h), layers(h))


@pytest.mark.parametrize(
    ("mode", "layers", "last", "more"),
    [
        ("parallel", [2], 1, {}),
        ("houlsby", [0, -1], 1, {}),
        ("parallel", [], 1, {"end": nn.Identity()}),
        ("clip-adapter-inner", [2], 1, {}),
        ("clip-adapter-inner", [3], 2, {"end": nn.Identity()}),
    ],
)
def test_a_layer_that_is_not_there(mode: str, layers: Any, last: int, more: Any) -> None:
    with pytest.raises(
        InputError, match=rf"'{mode}' does not exist: give numbers from 0 to {last}"
    ):
        Injected(clip_blocks(), mode, layers, width=HIDDEN, **more)


def test_blocks_of_another_kind() -> None:
    with pytest.raises(InputError, match="blocks of the kind Linear: use a CLIP"):
        Injected(nn.ModuleList([nn.Linear(2, 2)]), "parallel", [0], width=HIDDEN)


def test_saved_and_loaded_by_name(tower: SimpleNamespace) -> None:
    make: Callable[..., Injected] = Injected
    one = shake(make(tower.blocks, "houlsby", [1], width=HIDDEN, norms=True))
    expected, state = tower.run(), one.state_dict()
    one.remove()
    other = make(tower.blocks, "houlsby", [1], width=HIDDEN, norms=True, seed=7)
    other.load_state_dict(state)
    assert torch.equal(tower.run(), expected)
