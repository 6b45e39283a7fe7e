"""The file of a promoted version, conf/promoted/NAME.yaml, and its first line, which names
a version of the registry.
"""

from __future__ import annotations

import re
from pathlib import Path

from mcl.base.errors import PromotionError
from mcl.base.files import below

MODEL = "mcl"  # one registered model, so that an alias names one version and no other
PREVIOUS = "previous"  # the alias of the version that the name which moved last had before
STAGES = ("paper", "live")
FIRST_LINE = re.compile(
    r"# (?P<alias>[\w-]+): version (?P<version>\d+) of model mcl, content_sha256"
    r" (?P<content>[0-9a-f]{64})\n"
)
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,49}")
RESERVED = (PREVIOUS, "latest", *STAGES)  # MLflow has its own idea of `latest`


def path_of(name: str, root: Path) -> Path:
    return below(root / "conf" / "promoted", name, ending=".yaml")


def first_line(name: str, version: int, content: str) -> str:
    return f"# {name}: version {version} of model {MODEL}, content_sha256 {content}\n"


def named(stage: str, name: str | None) -> str:
    """The name that a promotion to `stage` moves: the stage itself unless another is given.
    PromotionError when it may not be one.
    """
    if name is None or name == stage:
        return stage
    if not NAME.fullmatch(name) or name in RESERVED or re.fullmatch(r"v\d+", name):
        raise PromotionError(
            f"{name!r} cannot be the name of a promoted version: letters, digits, _ and -, and none"
            f" of {', '.join(RESERVED)} or v1, v2 …",
            f"leave --name out: the name is then {stage!r}",
        )
    return name
