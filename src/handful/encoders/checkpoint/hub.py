"""A checkpoint of the Hugging Face hub: from the cache where it is there, else downloaded once.

The files lie in the cache that huggingface_hub, transformers and others share (``HF_HOME``,
``HF_HUB_CACHE``). What is complete there is used without a request: a branch that moved on is
followed after ``hf download NAME``. Other programs may have left only a part of the files, so the
names of those that belong to a commit are noted in handful's own cache.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from handful.encoders.checkpoint.hub_errors import host, megabytes, not_cached
from handful.encoders.checkpoint.hub_transfer import (
    Listing,
    get,
    is_here,
    list_files,
    missing,
    refuse_full_disk,
)
from handful.errors import InputError
from handful.paths import cache_folder, new_file
from handful.progress import notice, progress

__all__ = ["Snapshot", "fetch", "is_cached", "is_reachable"]

CONFIG = "config.json"
SMALL = (
    CONFIG,
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
# One file, or an index that names several; the first format that is complete is taken.
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
OPEN_CLIP = {"open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"}
OTHERS = {".onnx": "ONNX", ".msgpack": "Flax", ".h5": "TensorFlow", ".gguf": "GGUF"}
PING = 3.0  # seconds


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint in the Hugging Face cache."""

    folder: Path  # .../snapshots/COMMIT
    commit: str  # 40 hex digits
    downloaded: bool  # whether weights came over the network in this call


def fetch(name: str, revision: str | None = None) -> Snapshot:
    """Return a checkpoint of the hub, downloading what the cache does not have.

    Configuration, image settings, tokenizer and one set of weights: safetensors before ``.bin``,
    but no other format where the cache has one. Without a network, or with ``HF_HUB_OFFLINE``,
    a configuration and complete weights in the cache are enough.

    Args:
        name: ``OWNER/NAME``, or the one word of an old repository.
        revision: branch, tag or commit; without it ``main``.

    Raises:
        InputError: the name is no name, the hub does not give the files (the sentence says why and
            what to do), or they are not those of a transformers checkpoint.
    """
    from huggingface_hub import constants

    revision = _checked(name, revision)
    folder = _cached(name, revision)
    if folder and _is_noted(name, folder):
        return Snapshot(folder, folder.name, downloaded=False)
    usable = folder if folder and _weights_in(folder) else None
    if usable and constants.HF_HUB_OFFLINE:
        return Snapshot(usable, usable.name, downloaded=False)
    if constants.HF_HUB_OFFLINE:
        raise InputError(not_cached(name, revision))
    try:
        return _complete(name, revision, usable)
    except InputError as error:
        if not usable:
            raise
        notice(f"{error} Going on with the files of {name} that are in the cache.")
        return Snapshot(usable, usable.name, downloaded=False)


def is_cached(name: str, revision: str | None = None) -> bool:
    """Whether ``fetch`` works without a network. Makes no request.

    Raises:
        InputError: the name is no name.
    """
    folder = _cached(name, _checked(name, revision))
    return folder is not None and (_is_noted(name, folder) or _weights_in(folder) is not None)


def is_reachable(name: str, revision: str | None = None) -> bool:
    """Whether a checkpoint is cached, or the hub answers for it within seconds.

    Raises:
        InputError: the name is no name.
    """
    from huggingface_hub import constants

    if is_cached(name, revision):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        list_files(name, _checked(name, revision), timeout=PING)
    except InputError:
        return False
    return True


def _checked(name: str, revision: str | None) -> str:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        address = re.match(r"(?:https?://)?(?:huggingface\.co|hf\.co)/([^/?#]+/[^/?#]+)", name)
        hint = f" Did you mean '{address[1]}'?" if address else ""
        raise InputError(
            f"'{name}' is no name of a model on the Hugging Face hub: give OWNER/NAME, for example"
            f" openai/clip-vit-base-patch32.{hint}"
        ) from error
    revision = "main" if revision is None else revision
    if not re.fullmatch(r"[^\s~^:?*\[\\/-][^\s~^:?*\[\\]*", revision) or ".." in revision:
        raise InputError(
            f"'{revision}' is no revision of {name}: give a branch, a tag or a commit, for example"
            " main."
        )
    return revision


def _cached(name: str, revision: str) -> Path | None:
    """Return the folder of a revision in the cache, if it has at least a configuration."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, CONFIG, revision=revision)
    return Path(path).parent if isinstance(path, str) else None


def _complete(name: str, revision: str, usable: Path | None) -> Snapshot:
    """Download what is missing; of a usable commit, even if the branch has moved on since."""
    listing = list_files(name, usable.name if usable else revision)
    if CONFIG not in listing.files:
        raise _no_checkpoint(listing, CONFIG)
    folder = get(listing, CONFIG, usable).parent
    weights = (_weights_in(folder) if usable else None) or _choose(
        listing.files, lambda index: get(listing, index, folder)
    )
    if not weights:
        raise _no_checkpoint(listing, "complete weights (model.safetensors or pytorch_model.bin)")
    wanted = [file for file in SMALL if file in listing.files] + weights
    absent = [file for file in wanted if not (folder / file).is_file()]
    fetched = [file for file in absent if not is_here(listing, folder, file)]
    if fetched:
        _announce(listing, folder, fetched)
    total = sum(missing(listing, folder, file) for file in fetched)
    with progress("downloading", total, "bytes") as advance:
        for file in absent:
            get(listing, file, folder, advance)
    _note(listing, folder, wanted, revision)
    return Snapshot(folder, listing.commit, downloaded=not set(weights).isdisjoint(fetched))


def _announce(listing: Listing, folder: Path, files: Collection[str]) -> None:
    from huggingface_hub import constants

    total = sum(missing(listing, folder, file) for file in files)
    refuse_full_disk(listing.name, total)
    told = all(listing.files[file].size is not None for file in files)
    size = megabytes(total) if told else "of unknown size"
    where = constants.HF_HUB_CACHE
    notice(f"downloading {listing.name} from {host()}: {size}, once, to {where}")


def _weights_in(folder: Path) -> list[str] | None:
    names = {path.name for path in folder.iterdir() if path.is_file()}
    return _choose(names, lambda index: folder / index)


def _choose(names: Collection[str], locate: Callable[[str], Path]) -> list[str] | None:
    """Return the files of the first complete set of weights, an index before its shards."""
    for whole, index in WEIGHTS:
        if whole in names:
            return [whole]
        if index in names:
            shards = _shards(locate(index))
            if shards and all(shard in names for shard in shards):
                return [index, *shards]
    return None


def _shards(index: Path) -> list[str]:
    """Return the files that an index names; none where it is damaged."""
    try:
        return sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _no_checkpoint(listing: Listing, lacks: str) -> InputError:
    names = sorted(listing.files)
    others = {kind for end, kind in OTHERS.items() if any(name.endswith(end) for name in names)}
    if OPEN_CLIP.intersection(names):
        holds = f"it holds a model of open_clip, so give open_clip:hf-hub:{listing.name}"
    elif others:
        holds = f"it holds {' and '.join(sorted(others))} weights, which transformers does not read"
    else:
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        holds = f"it holds {', '.join(names[:6]) or 'nothing'}{more}"
    return InputError(f"{listing.name} has no {lacks}: {holds}.")


def _marker(name: str, commit: str) -> Path:
    return cache_folder() / "hub" / name.replace("/", "--") / f"{commit}.json"


def _is_noted(name: str, folder: Path) -> bool:
    """Whether the files of a commit were once listed, and all are there."""
    try:
        files = json.loads(_marker(name, folder.name).read_text("utf-8"))["files"]
        return bool(files) and all((folder / file).is_file() for file in files)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _note(listing: Listing, folder: Path, files: list[str], revision: str) -> None:
    """Note which files belong to a commit, and which commit a branch or tag is.

    Both spare the next call its requests, and no more: where they cannot be written, it asks.
    """
    with (
        suppress(InputError, OSError),
        new_file(_marker(listing.name, listing.commit), overwrite=True) as file,
    ):
        file.write_text(json.dumps({"files": files}), "utf-8")
    # huggingface_hub writes this file only where it resolves the name itself, file by file: a
    # branch that moves meanwhile would give files of two commits.
    ref = folder.parent.parent / "refs" / revision
    if revision != listing.commit and _cached(listing.name, revision) != folder:
        with suppress(InputError, OSError), new_file(ref, overwrite=True) as file:
            file.write_text(listing.commit, "utf-8")
