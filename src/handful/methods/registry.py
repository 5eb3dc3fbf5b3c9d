"""The list of methods. Adding one is a new file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from handful.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from handful.methods.head import Head

__all__ = ["DEFAULT_METHOD", "find", "get", "names"]

# What people get who name no method: on average the best without validation images, and good where
# the names say nothing, too (see docs/which-method.md).
DEFAULT_METHOD = "best"

_METHODS = {
    "zero-shot": "zero_shot:ZeroShot",
    "linear-probe": "linear_probe:LinearProbe",
    "nearest-class-mean": "nearest_class_mean:NearestClassMean",
    "clip-adapter": "clip_adapter:ClipAdapter",
    "cluster-adapter": "cluster_adapter:ClusterAdapter",
    "tip-adapter": "tip_adapter:TipAdapter",
    "tip-adapter++": "tip_adapter:TipAdapterPlusPlus",
    "tip-adapter-f": "tip_adapter:TipAdapterF",
    "tip-x": "tip_x:TipX",
    "tip-x++": "tip_x:TipXPlusPlus",
    "ape": "ape:Ape",
    "ape++": "ape:ApePlusPlus",
    "ape-t": "ape:ApeT",
    "cafo": "cafo:Cafo",
    "graph-adapter": "graph_adapter:GraphAdapter",
    "task-res": "task_res:TaskRes",
    "lp++": "lp_plus_plus:LPPlusPlus",
    "zs-lp": "clap:ZeroShotLinearProbe",
    "clap": "clap:Clap",
    "cross-modal": "cross_modal:CrossModal",
    "gda": "gda:GDA",
    "proker": "proker:ProKeR",
    "elevater-r2p": "elevater:ElevaterR2P",
    "elevater-l2p": "elevater:ElevaterL2P",
    "elevater-l1p": "elevater:ElevaterL1P",
    "wise-ft": "wise_ft:WiseFT",
    "best": "best:Best",
}


def names() -> list[str]:
    """Return the names of all methods, the simplest first."""
    return list(_METHODS)


def get(name: str) -> type[Head]:
    """Return the class of the method called ``name``.

    Raises:
        InputError: there is no such method; the nearest name is suggested.
    """
    found: type[Head] = find(name, _METHODS, "handful.methods", "method")
    return found


def find(name: str, places: Mapping[str, str], room: str, what: str) -> Any:
    """Return the class that a list of methods has under a name.

    Args:
        name: of the method.
        places: by name, ``module:Class``.
        room: package of the modules.
        what: the list is of.

    Raises:
        InputError: there is no such name; the nearest is suggested.
    """
    if name not in places:
        raise InputError(
            f"there is no {what} '{name}'.{did_you_mean(name, places)} "
            "The command 'handful methods' lists all of them."
        )
    module, _, attribute = places[name].partition(":")
    return getattr(import_module(f"{room}.{module}"), attribute)
