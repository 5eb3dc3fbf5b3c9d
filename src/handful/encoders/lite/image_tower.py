"""EfficientNet-Lite0: an image classifier without its last layer, 1,280 numbers per image.

Architecture: Tan and Le, "EfficientNet", 2019, in the "lite" form of 2020 (ReLU6, no squeeze and
excitation, stem and head not scaled); trained on ImageNet-1k. The convolutions pad as TensorFlow's
SAME does, which is asymmetric where the stride is 2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

__all__ = ["BATCH_NORM_EPS", "FIRST_STRIDES", "ImageTower", "folded"]

BATCH_NORM_EPS = 1e-3
# Of each stage: number of blocks, stride of the first one. The rest is in the weights' shapes.
FIRST_STRIDES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))

Weights = dict[str, torch.Tensor]


class ImageTower(nn.Module):
    """Pixels, float32 ``(N, 3, S, S)``, to pooled features, float32 ``(N, 1280)``.

    Args:
        weights: tensors by their published names, ``_blocks.0._bn1.weight`` and so on.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        strides = [first if i == 0 else 1 for n, first in FIRST_STRIDES for i in range(n)]
        self.layers = nn.Sequential(
            _Convolution(*folded(weights, "_conv_stem", "_bn0"), stride=2),
            *(_Block(weights, f"_blocks.{i}.", stride) for i, stride in enumerate(strides)),
            _Convolution(*folded(weights, "_conv_head", "_bn1")),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.layers(x)
        return maps.mean((2, 3))


class _Block(nn.Module):
    """Inverted residual: expand (where the weights do), depthwise, project, add."""

    def __init__(self, weights: Weights, name: str, stride: int) -> None:
        super().__init__()
        layers = []
        if f"{name}_expand_conv.weight" in weights:
            layers.append(_Convolution(*folded(weights, f"{name}_expand_conv", f"{name}_bn0")))
        layers += [
            _Convolution(*folded(weights, f"{name}_depthwise_conv", f"{name}_bn1"), stride=stride),
            _Convolution(*folded(weights, f"{name}_project_conv", f"{name}_bn2"), active=False),
        ]
        self.layers = nn.Sequential(*layers)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return y.add_(x) if self.stride == 1 and x.shape == y.shape else y


class _Convolution(nn.Module):
    """A convolution that holds the batch norm after it, and ReLU6 unless ``active`` is false.

    Buffers instead of ``nn.Conv2d``: its random start would draw from the caller's generator.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, *, stride: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        self.stride = stride
        self.active = active
        self.kernel = weight.shape[2]
        # No full convolution of this network has a single input channel: those are depthwise.
        self.groups = weight.shape[0] if weight.shape[1] == 1 else 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padding = self.kernel // 2
        if self.stride > 1:
            x, padding = _pad_same(x, self.kernel, self.stride), 0
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return F.relu6(y, inplace=True) if self.active else y


def folded(weights: Weights, convolution: str, norm: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of the convolution that does the batch norm too.

    γ·(Wx − μ)/√(σ² + ε) + β = (gW)x + (β − gμ), with g = γ/√(σ² + ε).
    """
    gamma, beta = weights[f"{norm}.weight"], weights[f"{norm}.bias"]
    mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
    gain = gamma / torch.sqrt(variance + BATCH_NORM_EPS)
    return weights[f"{convolution}.weight"] * gain.view(-1, 1, 1, 1), beta - gain * mean


def _pad_same(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    # ⌈n / stride⌉ outputs; the odd pixel of padding goes to the right and to the bottom.
    height, width = (
        max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]
    )
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
