"""Files of open_clip's models from the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from handful.encoders.checkpoint.hub_errors import host, megabytes, not_cached
from handful.encoders.checkpoint.hub_transfer import get, list_files, missing, refuse_full_disk
from handful.errors import InputError
from handful.paths import new_file
from handful.progress import notice, progress

__all__ = ["CONFIG", "bring"]

CONFIG = "open_clip_config.json"


def bring(repository: str, files: Sequence[str], revision: str = "main") -> Path:
    """Return one file of a repository: the first in the cache, else the first on the hub.

    Args:
        repository: ``OWNER/NAME``.
        files: names of files, any of which will do.
        revision: branch, tag or commit.

    Returns:
        its path in the Hugging Face cache, in the folder of the commit.

    Raises:
        InputError: the hub could not be asked, or has none of them.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository):
        raise InputError(
            f"{repository!r} is no name of a model on the Hugging Face hub: give"
            " open_clip:hf-hub:OWNER/NAME."
        )
    for file in files:
        cached = try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    if constants.HF_HUB_OFFLINE:
        raise InputError(not_cached(repository))
    listing = list_files(repository, revision)
    wanted = next((file for file in files if file in listing.files), None)
    if wanted is None:
        raise InputError(
            f"{repository} has no {' or '.join(files)}, so it is no model of open_clip: give"
            f" hf:{repository} if it is one of transformers."
        )
    # Something small shows where huggingface_hub puts the rest.
    small = CONFIG if CONFIG in listing.files else ".gitattributes"
    folder = get(listing, small, None).parent if small in listing.files else None
    total = missing(listing, folder, wanted) if folder else listing.files[wanted].size or 0
    if wanted != CONFIG:
        refuse_full_disk(repository, total)
        size = megabytes(total) if total else "of unknown size"
        where = constants.HF_HUB_CACHE
        notice(f"downloading {wanted} of {repository} from {host()}: {size}, once, to {where}")
    with progress("downloading", total, "bytes") as advance:
        path = get(listing, wanted, folder, advance)
    if revision != listing.commit:
        _remember(path.parent, revision)
    return path


def _remember(snapshot: Path, revision: str) -> None:
    """Note which commit a branch is: who asks for files by their commit leaves no word of it."""
    ref = snapshot.parent.parent / "refs" / revision
    with suppress(InputError, OSError), new_file(ref, overwrite=True) as file:
        file.write_text(snapshot.name, "utf-8")
