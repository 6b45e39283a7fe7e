"""Finds the source files that code needs, by following its imports without executing them."""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path

import mcl

PACKAGE = Path(mcl.__file__).parent
# a registry that imports each file of its folder
LISTS_ITSELF = b"Path(__file__).parent.glob("
INSTALLED = tuple(
    Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "purelib", "platlib")
)


def needed(*modules: str) -> dict[str, bytes]:
    """The sources of `modules` and of all that they import from mcl, at the top or inside a
    function, by path below the package.

    A package that is named in `modules` counts with all its modules, since it may find them by
    listing its folder; so does one whose source says that it does.
    """
    listed = [path for module in modules for path in _folder(module).glob("*.py")]
    return _followed(
        [PACKAGE / "__init__.py", *listed, *(path for module in modules for path in _of(module))],
        set(),
    )


def imported(modules: Iterable[str], besides: Collection[str] = ()) -> dict[str, bytes]:
    """As `needed`, of what an import of `modules` executes; files in `besides` are left out and not
    followed.
    """
    return _followed(
        [path for module in modules for path in _of(module)], {PACKAGE / name for name in besides}
    )


def _followed(waiting: list[Path], left_out: set[Path]) -> dict[str, bytes]:
    sources: dict[Path, bytes] = {}
    while waiting:
        path = waiting.pop()
        if path not in sources and path not in left_out:
            sources[path] = path.read_bytes()
            # the front of the library imports a function when somebody asks for it
            if path == PACKAGE / "__init__.py":
                continue
            waiting += [needed_path for name in imports(sources[path]) for needed_path in _of(name)]
            if path.name == "__init__.py" and LISTS_ITSELF in sources[path]:
                waiting += path.parent.glob("*.py")
    return {path.relative_to(PACKAGE).as_posix(): sources[path] for path in sorted(sources)}


@lru_cache(maxsize=512)
def imports(source: bytes) -> tuple[str, ...]:
    """The modules that a source may import: `from a import b` may mean a.b, and a relative name
    begins with its dots.
    """
    return tuple(dict.fromkeys(_imports(source)))


def _imports(source: bytes) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            inside = module if module.endswith(".") else f"{module}."
            yield from (module, *(f"{inside}{alias.name}" for alias in node.names))


@dataclass(frozen=True)
class File:
    """A file of a project: its bytes, and the digest of what they mean to Python, without comments,
    layout and docstrings.
    """

    content: bytes
    meaning: str
    imports: tuple[str, ...]


def local(path: Path, project: Path) -> dict[Path, File]:
    """`path` and all that it imports from files of the project, which are neither of mcl nor
    installed.
    """
    waiting, files = [path], dict[Path, File]()
    while waiting:
        here = waiting.pop()
        if here not in files:
            files[here] = _parsed(here, here.stat().st_mtime_ns)
            waiting += [
                other for name in files[here].imports if (other := _local(name, here, project))
            ]
    return files


@lru_cache(maxsize=256)
def _parsed(path: Path, modified_ns: int) -> File:
    """A file that is no Python is what its bytes are, and imports nothing."""
    del modified_ns  # an edited file is another one
    content = path.read_bytes()
    try:
        tree = ast.parse(content)
    except SyntaxError:
        return File(content, hashlib.sha256(content).hexdigest(), ())
    meaning = hashlib.sha256(ast.dump(_Undocumented().visit(tree)).encode()).hexdigest()
    return File(content, meaning, imports(content))


class _Undocumented(ast.NodeTransformer):
    """Drops docstrings, as all strings that stand alone."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if alone else node


def _local(module: str, importer: Path, project: Path) -> Path | None:
    """The project's file that an import of `module` executes; None where there is none, as for what
    is installed.
    """
    name = module.lstrip(".")
    level = len(module) - len(name)
    if level:
        folder = importer.parents[level - 1]
        stem = folder.joinpath(*name.split("."))
        path_found = next(
            (
                path
                for path in (stem.with_suffix(".py"), stem / "__init__.py")
                if name and path.is_file()
            ),
            None,
        )
    else:
        path_found = _on_the_path(name)
    if path_found is None or not path_found.is_relative_to(project.resolve()):
        return None
    return None if any(path_found.is_relative_to(folder) for folder in INSTALLED) else path_found


def _on_the_path(module: str) -> Path | None:
    parts, inside, spec = module.split("."), None, None
    if parts[0] == mcl.__name__:
        return None
    for n in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:n]), inside)
        if spec is None:
            return None
        inside = list(spec.submodule_search_locations or [])
    origin = spec.origin if spec else None
    return Path(origin).resolve() if origin and origin.endswith(".py") else None


def _of(module: str) -> list[Path]:
    """The files that an import of `module` executes, packages around it included; none for what is
    no module of mcl.
    """
    parts = module.split(".")
    if parts[0] != "mcl":
        return []
    folders = [PACKAGE.joinpath(*parts[1:n]) / "__init__.py" for n in range(1, len(parts) + 1)]
    return [path for path in (*folders, _folder(module).with_suffix(".py")) if path.is_file()]


def _folder(module: str) -> Path:
    return PACKAGE.joinpath(*module.split(".")[1:])
