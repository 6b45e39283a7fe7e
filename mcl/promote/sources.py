"""Which files of the package a module needs: what its imports lead to, followed in the source without executing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import mcl

PACKAGE = Path(mcl.__file__).parent


def needed(*modules: str) -> dict[str, bytes]:
    """The sources of `modules` and of all that they import from mcl, at the top or inside a function, by path below the package.

    A package that is named in `modules` counts with all its modules, since it may find them by listing its folder.
    """
    waiting = [path for module in modules for path in (*_of(module), *_folder(module).glob("*.py"))]
    found: dict[Path, bytes] = {PACKAGE / "__init__.py": (PACKAGE / "__init__.py").read_bytes()}
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = path.read_bytes()
            waiting += [needed_path for name in _imports(found[path]) for needed_path in _of(name)]
    return {path.relative_to(PACKAGE).as_posix(): found[path] for path in sorted(found)}


def _imports(source: bytes) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def _of(module: str) -> list[Path]:
    """The files that an import of `module` executes, packages around it included; none for what is no module of mcl."""
    parts = module.split(".")
    if parts[0] != "mcl":
        return []
    folders = [PACKAGE.joinpath(*parts[1:n]) / "__init__.py" for n in range(1, len(parts) + 1)]
    return [path for path in (*folders, _folder(module).with_suffix(".py")) if path.is_file()]


def _folder(module: str) -> Path:
    return PACKAGE.joinpath(*module.split(".")[1:])
