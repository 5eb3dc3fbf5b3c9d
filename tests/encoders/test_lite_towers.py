"""The two towers of lite against independent implementations of the same networks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from handful.encoders.decode import open_image
from handful.encoders.lite.image_tower import ImageTower, folded
from handful.encoders.lite.join import imagenet_names
from handful.encoders.lite.weights import image_weights, text_files

# Table 1 of the EfficientNet paper, stem and head left at their size: per stage the number of
# blocks, kernel, stride of the first block, expansion, channels in and out.
TABLE = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
]


@pytest.fixture(scope="module")
def weights(lite) -> dict[str, torch.Tensor]:
    return image_weights()


def plain_layer(x, w, convolution, norm, stride=1, depthwise=False, activate=True):
    kernel = w[f"{convolution}.weight"]
    k = kernel.shape[-1]
    for axis in (2, 3):  # SAME, as the TensorFlow manual states it
        n = x.shape[axis]
        total = max(k - stride, 0) if n % stride == 0 else max(k - n % stride, 0)
        sides = (total // 2, total - total // 2)
        x = F.pad(x, (0, 0, *sides) if axis == 2 else sides)
    x = F.conv2d(x, kernel, stride=stride, groups=x.shape[1] if depthwise else 1)
    statistics = [w[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    x = F.batch_norm(x, *statistics, training=False, eps=1e-3)
    return x.clamp(0, 6) if activate else x


def plain_network(x: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    x = plain_layer(x, w, "_conv_stem", "_bn0", stride=2)
    number = 0
    for blocks, _, first_stride, expansion, channels_in, channels_out in TABLE:
        for i in range(blocks):
            p = f"_blocks.{number}."
            stride = first_stride if i == 0 else 1
            y = x
            if expansion > 1:
                y = plain_layer(y, w, f"{p}_expand_conv", f"{p}_bn0")
            y = plain_layer(y, w, f"{p}_depthwise_conv", f"{p}_bn1", stride, depthwise=True)
            y = plain_layer(y, w, f"{p}_project_conv", f"{p}_bn2", activate=False)
            x = y + x if stride == 1 and (i > 0 or channels_in == channels_out) else y
            number += 1
    return plain_layer(x, w, "_conv_head", "_bn1").mean((2, 3))


def test_the_weights_have_the_shapes_of_the_table(weights: dict[str, torch.Tensor]) -> None:
    number = 0
    for blocks, kernel, _, expansion, channels_in, channels_out in TABLE:
        for i in range(blocks):
            inside = (channels_in if i == 0 else channels_out) * expansion
            depthwise = weights[f"_blocks.{number}._depthwise_conv.weight"]
            project = weights[f"_blocks.{number}._project_conv.weight"]
            assert depthwise.shape == (inside, 1, kernel, kernel)
            assert project.shape == (channels_out, inside, 1, 1)
            number += 1
    assert weights["_fc.weight"].shape == (1000, 1280)


@pytest.mark.parametrize("size", [224, 97])  # an odd size pads differently
def test_image_tower_equals_the_plain_network(weights, lite, pictures, size: int) -> None:
    if size == 224:
        pixels = np.stack([lite.preprocess(picture) for picture in pictures[:3]])
        x = lite.preprocess.normalise(pixels)
    else:
        x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        fast = ImageTower(weights)(x.contiguous(memory_format=torch.channels_last))
        plain = plain_network(x.double(), {name: w.double() for name, w in weights.items()})
    assert fast.shape == (len(x), 1280)
    torch.testing.assert_close(fast.double(), plain, atol=1e-4, rtol=1e-4)


def test_folding_keeps_the_layer(weights: dict[str, torch.Tensor]) -> None:
    x = torch.randn(1, 80, 9, 9, generator=torch.Generator().manual_seed(1))
    weight, bias = folded(weights, "_blocks.6._expand_conv", "_blocks.6._bn0")
    plain = plain_layer(x, weights, "_blocks.6._expand_conv", "_blocks.6._bn0", activate=False)
    torch.testing.assert_close(F.conv2d(x, weight, bias), plain, atol=1e-4, rtol=1e-4)


def test_the_classifier_on_top_names_what_is_in_the_photographs(weights, lite, photos) -> None:
    # Weights, preprocessing and the order of the class names fit together: a network that is right
    # for most ImageNet images must be for most photographs of three of its own classes.
    for folder, name in [
        ("dam", "dam"),
        ("hammer", "hammer"),
        ("solar panel", "solar thermal collector"),
    ]:
        pictures = [open_image(path) for path in sorted((photos / folder).iterdir())]
        features = torch.from_numpy(lite.encode_images(pictures))
        logits = features @ weights["_fc.weight"].T + weights["_fc.bias"]
        found = Counter(imagenet_names()[i] for i in logits.argmax(1).tolist())
        assert found[name] > len(pictures) / 2


def test_text_tower_equals_the_packaged_model(lite) -> None:
    from transformers import AutoModel, AutoTokenizer

    from handful.encoders.lite.text_tower import TextTower

    texts = ["solar panel", "a very much longer text about a windmill, in the evening.", "Dam"]
    ours = TextTower(*text_files())(texts)
    folder = text_files()[0].parent  # with its own configuration and tokenizer settings
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    for row, text in zip(ours, texts, strict=True):
        with torch.inference_mode():  # one by one: nothing to pad, nothing to mask
            states = model.eval()(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(row, F.normalize(states.mean(0), dim=0), atol=1e-5, rtol=1e-5)


def test_text_of_any_length(lite) -> None:
    tower = lite.text_tower
    assert tower([]).shape == (0, 384)
    unit = tower(["", "dam " * 1000, *["x"] * 70])  # empty, cut, more than one batch
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(72))
