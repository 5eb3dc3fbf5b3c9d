"""What the package ``datasets`` loads, and what to say when it does not."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import has_magic
from pathlib import Path
from typing import Any

from handful.encoders.checkpoint.hub_errors import host, is_network
from handful.errors import InputError

__all__ = ["load_folder", "load_from_hub", "need_datasets"]

TIMEOUT = 10.0  # seconds


def need_datasets(text: str) -> None:
    """Raise where the package is not installed.

    Args:
        text: what the user typed.

    Raises:
        InputError: it is missing, or does not work.
    """
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{text} needs the package datasets ({error}): run pip install 'handful[datasets]'."
        ) from error


def load_folder(path: Path, config: str | None) -> Mapping[str, Any]:
    """Return the splits of a folder of images, of ``save_to_disk``, or of Parquet files.

    Args:
        path: the folder, or one Parquet file.
        config: one of several configurations that the folder's ``README.md`` names.

    Raises:
        InputError: nothing in it can be read.
    """
    import datasets

    place = str(path.resolve())
    with _explained(str(path), None):
        if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return _by_split(datasets.load_from_disk(place))
        if has_magic(place):
            raise InputError(
                f"the package datasets takes {place} for a pattern: leave *, ? and [ out of the"
                " names of its folders."
            )
        if path.is_file():
            return _by_split(datasets.load_dataset("parquet", data_files=place))
        return _by_split(datasets.load_dataset(place, config))


def load_from_hub(name: str, config: str | None, revision: str | None) -> Mapping[str, Any]:
    """Return the splits of a data set of the hub, downloaded once into the Hugging Face cache.

    With ``HF_HUB_OFFLINE``, what is in that cache.

    Args:
        name: ``OWNER/NAME``, or the one word of an old data set.
        config: one of several configurations.
        revision: branch, tag or commit; the default branch where None.

    Raises:
        InputError: the hub does not give it, or it cannot be read; the sentence says why.
    """
    from huggingface_hub import HfApi

    import datasets

    with _explained(name, revision):
        if datasets.config.HF_HUB_OFFLINE:
            splits = _by_split(datasets.load_dataset(name, config))
            _refuse_other_revision(name, revision, splits)
            return splits
        # Asked first: datasets would try for half a minute, and then take whatever revision of
        # the data set is in the cache.
        commit = HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT).sha
        return _by_split(datasets.load_dataset(name, config, revision=commit))


def _by_split(loaded: Any) -> Mapping[str, Any]:
    return loaded if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}


def _refuse_other_revision(name: str, revision: str | None, splits: Mapping[str, Any]) -> None:
    """Raise unless the cache has the commit that was asked for; the path of its files tells."""
    files = [file["filename"] for rows in splits.values() for file in rows.cache_files]
    if revision and not all(Path(file).parent.name == revision for file in files):
        raise InputError(
            f"{name} is in the cache, but nothing shows that it is of revision '{revision}': unset"
            " HF_HUB_OFFLINE, or leave the revision out."
        )


@contextmanager
def _explained(name: str, revision: str | None) -> Iterator[None]:
    """Turn what goes wrong into an ``InputError``; no bars in a pipe, and no other noise."""
    try:
        with _quiet():
            yield
    except InputError:
        raise
    except Exception as error:  # many kinds, of datasets, pyarrow, the hub, the network, the disk
        raise InputError(_sentence(error, name, revision)) from error


@contextmanager
def _quiet() -> Iterator[None]:
    from huggingface_hub import utils as hub

    import datasets

    packages: list[Any] = [datasets, hub]
    levels = [package.logging.get_verbosity() for package in packages]
    silenced = [
        package
        for package in packages
        if not (sys.stderr.isatty() or package.are_progress_bars_disabled())
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for package in packages:
            package.logging.set_verbosity_error()
        for package in silenced:
            package.disable_progress_bars()
        try:
            yield
        finally:
            for package, level in zip(packages, levels, strict=True):
                package.logging.set_verbosity(level)
            for package in silenced:
                package.enable_progress_bars()


def _sentence(error: Exception, name: str, revision: str | None) -> str:
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    import datasets

    page = f"{constants.ENDPOINT}/datasets/{name}"
    said = _first_line(error)
    status = error.response.status_code if isinstance(error, hub.HfHubHTTPError) else None
    if isinstance(error, hub.GatedRepoError) or " gated " in str(error):
        return (
            f"{name} is gated: accept its terms at {page}, then run hf auth login (or set HF_TOKEN)"
            " and try again."
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return (
            f"{name} has no revision '{revision}': give a branch, a tag or a commit of"
            f" {page}/commits/main."
        )
    # Who is not logged in and asks for what is not there gets 401, not 404.
    if isinstance(error, DatasetNotFoundError) or status in (401, 404):
        return (
            f"there is no folder {name} here, and {host()} has no data set of that name, or it is"
            " private: check the name, and for a private one run hf auth login (or set HF_TOKEN)."
        )
    if datasets.config.HF_HUB_OFFLINE and isinstance(error, ConnectionError):
        return (
            f"there is no folder {name} here, the data set {name} is not in the cache"
            f" {datasets.config.HF_DATASETS_CACHE}, and HF_HUB_OFFLINE forbids to download it:"
            " unset HF_HUB_OFFLINE, or give a folder."
        )
    if isinstance(error, ConnectionError | TimeoutError) or is_network(error):
        return (
            f"there is no folder {name} here, and {host()} could not be asked for it ({said}):"
            " connect to the internet, or set HF_HUB_OFFLINE=1 to use what was downloaded before."
        )
    if status is not None:
        return (
            f"{host()} refuses the data set {name} with status {status}: try again, or see {page}."
        )
    if script := re.search(r"scripts are no longer supported, but found (\S+)", said):
        return (
            f"{name} is made by a program of its own, {script[1]}, and no such program is run: try"
            f" hf:{name}@refs/convert/parquet, or another copy."
        )
    return f"{name} cannot be loaded by the package datasets: {said}."


def _first_line(error: BaseException) -> str:
    """Return what the first cause says: datasets wraps errors that it meets on the way."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip().rstrip(".") or type(error).__name__
    return " ".join(text.split())[:300]
