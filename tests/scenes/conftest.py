"""The scripts of ``benchmarks/scenes`` import one another by name, as scripts do."""

from __future__ import annotations

import sys
from pathlib import Path

SCENES = Path(__file__).resolve().parents[2] / "benchmarks" / "scenes"
sys.path.append(str(SCENES))
