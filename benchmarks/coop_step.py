"""What one training step of CoOp costs, against the naive step that reads 77 tokens of each class.

    python benchmarks/coop_step.py [--repeat 3] [--threads N]

Text tower of ViT-B/32 (12 blocks, width 512, 8 heads) with random weights, 32 image features, 16
vectors, the first C of the ImageNet class names. Needs open_clip for CLIP's tokenizer. Prints how
far the gradients are apart at 20 classes; the median times of both steps, taken in turns in one
process, at 100 classes; and the peak memory of processes that do nothing but one step, with and
without what they hold before it. The naive step at 1,000 classes would need about ten times the
memory of the one at 100.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from handful.benchmark.cost import forget_peak, peak_memory
from handful.encoders.lite.join import imagenet_names
from handful.encoders.preprocess import Preprocess
from handful.functional.normalise import unit
from handful.tuning.coop import CoOp, LearnedContext
from handful.tuning.towers import Towers
from handful.tuning.towers_checkpoint import ClipText
from handful.tuning.tuning import Prompts

TEXT = {"vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "projection_dim": 512}
TEXT |= {"num_hidden_layers": 12, "num_attention_heads": 8, "max_position_embeddings": 77}
IMAGES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "image_size": 32}
IMAGES |= {"num_attention_heads": 1, "patch_size": 32}
START, END = 49406, 49407
BATCH, VECTORS, SCALE = 32, 16, 100.0


def tokenizer() -> Any:
    """Return CLIP's, from its file: the package itself would bring torchvision, and memory."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        sys.exit("needs the tokenizer of the package open_clip_torch: install handful[open_clip]")
    path = Path(package.origin).with_name("tokenizer.py")
    spec = importlib.util.spec_from_file_location("clip_tokenizer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer()


WORDS = tokenizer()


def token_ids(text: str) -> list[int]:
    """Return what CLIP reads."""
    return [START, *WORDS.encode(text), END][:77]


def make(classes: int, position: str) -> LearnedContext:
    """Return CoOp on the tower, for the first classes of ImageNet."""
    torch.manual_seed(0)
    config = CLIPConfig(text_config=TEXT, vision_config=IMAGES, projection_dim=512)
    model = CLIPModel(config).eval()
    texts: Any = SimpleNamespace(model=model, context=77, token_ids=token_ids)
    towers = Towers(
        None,
        ClipText(texts),
        logit_scale=SCALE,
        dim=512,
        preprocess=Preprocess(),
        spec="random",
        fingerprint="",
        device=torch.device("cpu"),
    )
    towers.requires_grad_(False)
    method = CoOp(context_tokens=VECTORS, class_position=position)
    tuned = method.open(towers, Prompts(imagenet_names()[:classes]), 0)
    assert isinstance(tuned, LearnedContext)
    return tuned


def naive_embeddings(tuned: LearnedContext, position: str) -> Tensor:
    """Return unit class embeddings as the published code computes them: 77 tokens of each class."""
    tower: Any = tuned.towers.text
    before = {"end": VECTORS, "middle": VECTORS // 2, "front": 0}[position]
    ids = torch.zeros(len(tuned.prompts.names), 77, dtype=torch.int64)
    holes = torch.zeros(ids.shape, dtype=torch.bool)
    for row, name in enumerate(tuned.prompts.names):
        inside, stop = WORDS.encode(name), WORDS.encode(".")
        if position == "end":
            inside, stop = [], inside + stop
        holder = [0] * VECTORS
        places = [START, *holder[:before], *inside, *holder[before:], *stop, END]
        ids[row, : len(places)] = torch.tensor(places)
        holes[row, 1 : 1 + before] = True
        behind = 1 + before + len(inside)
        holes[row, behind : behind + VECTORS - before] = True
    vectors = tuned.context.expand(len(ids), -1, -1).flatten(0, 1)
    embeddings = tower.embed(ids).masked_scatter(holes[..., None], vectors)
    states = tower.enter(embeddings)
    for block in tower.blocks:
        # transformers' own call: it takes the causal path of its fused attention.
        states = block(states, None, is_causal=True)
    return unit(tower.leave(states, ids.argmax(1)))


def step(tuned: LearnedContext, position: str, naive: bool) -> float:
    """Do one step and return its seconds; the gradient stays in ``context.grad``."""
    random = torch.Generator().manual_seed(1)
    x = unit(torch.randn(BATCH, 512, generator=random))
    y = torch.randint(len(tuned.prompts.names), (BATCH,), generator=random)
    optimiser = torch.optim.SGD([tuned.context], lr=1e-9, momentum=0.9, weight_decay=5e-4)
    start = time.perf_counter()
    optimiser.zero_grad()
    text = naive_embeddings(tuned, position) if naive else tuned.class_embeddings()
    torch.nn.functional.cross_entropy(SCALE * x @ text.mT, y).backward()
    optimiser.step()
    return time.perf_counter() - start


def gradient_gap(position: str) -> float:
    """Return ‖g − g_naive‖ / ‖g_naive‖ at 20 classes."""
    tuned = make(20, position)
    gradients = []
    for naive in (True, False):
        step(tuned, position, naive)
        assert tuned.context.grad is not None
        gradients.append(tuned.context.grad.clone())
    return float((gradients[1] - gradients[0]).norm() / gradients[0].norm())


def in_turns(position: str, classes: int, repeat: int) -> list[float]:
    """Return the median seconds of the naive and of our step."""
    tuned = make(classes, position)
    found = [[step(tuned, position, naive) for naive in (True, False)] for _ in range(repeat + 1)]
    return [statistics.median(times) for times in zip(*found[1:], strict=True)]


def one_step(classes: int, naive: bool) -> dict[str, float]:
    """Return seconds and memory in MB of one step in this process, after one for two classes."""
    step(make(2, "end"), "end", naive)
    tuned = make(classes, "end")
    forget_peak()  # a process begins with the peak of the one that started it
    held = peak_memory()
    seconds = step(tuned, "end", naive)
    peak = peak_memory()
    return {"seconds": seconds, "peak": peak, "step": peak - held}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--one", nargs=2, metavar=("CLASSES", "NAIVE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.one:
        print(json.dumps(one_step(int(given.one[0]), given.one[1] == "naive")))
        return
    for position in ("end", "middle", "front"):
        print(f"gradient at 20 classes, {position:<8}{gradient_gap(position):12.1e} relative")
    for position in ("end", "middle", "front"):
        naive, ours = in_turns(position, 100, given.repeat)
        print(
            f"step at 100 classes, {position:<8} naive {naive:7.2f} s   ours {ours:6.2f} s"
            f"   {naive / ours:5.1f} times"
        )
    for classes, kind in ((100, "naive"), (100, "ours"), (1000, "ours")):
        command = [sys.executable, __file__, "--threads", str(given.threads)]
        command += ["--one", str(classes), kind]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(answer.splitlines()[-1])
        print(
            f"one step, {classes:>5} classes, {kind:<6} peak {found['peak']:7.0f} MB   of the step"
            f" {found['step']:7.0f} MB   {found['seconds']:6.2f} s"
        )


if __name__ == "__main__":
    main()
