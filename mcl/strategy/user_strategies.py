"""Load a user's own strategies: one file each in the project's experiments/strategies, read when a
config names it.

The file NAME.py holds one frozen dataclass with `name = "NAME"`. Its signal may be a pandas Series
or a list; it is checked here once per run, so that a wrong length or a value outside [-1, 1] is a
sentence and not a strange result.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mcl.base import access_recorder
from mcl.base.errors import ConfigError, MclError, in_words
from mcl.base.files import below, root
from mcl.base.import_closure import File, local
from mcl.base.jit import own_cache
from mcl.data.bars import Bars, Floats
from mcl.strategy.indicators import TOLERANCE

if TYPE_CHECKING:
    from mcl.strategy import Strategy

PACKAGE = "experiments.strategies."  # of the modules that are made of a user's files
PARTS = ("memory", "uses_levels", "signal")


def folder() -> Path:
    return root() / "experiments" / "strategies"


def names() -> list[str]:
    """Names of the files in the folder; tests and names with a leading underscore are left out."""
    return sorted(
        path.stem
        for path in folder().glob("*.py")
        if path.stem.isidentifier() and not path.stem.startswith(("test_", "_"))
    )


def refuse_namesake(name: str) -> None:
    """ConfigError when the project has a file called like this strategy of the package; looked up
    once per process and place.
    """
    _refuse_namesake(os.environ.get("MCL_HOME"), os.getcwd(), name)  # noqa: PTH109


@functools.lru_cache(maxsize=256)
def _refuse_namesake(home: str | None, here: str, name: str) -> None:
    del home, here  # what `folder` depends on
    if (folder() / f"{name}.py").is_file():
        raise ConfigError(
            f"{folder() / name}.py is called like a strategy that mcl has: {name!r}; rename the"
            " file and its class's name"
        )


def load(name: str) -> type[Strategy]:
    """The class in experiments/strategies/NAME.py; ConfigError with the place when the file does
    not hold one.
    """
    path = below(folder(), name, ending=".py")
    return _loaded(path, path.stat().st_mtime_ns, name)


def digests(strategy: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of each own file that a strategy's config names, at any depth, and of the project's
    files that those import, by path in the project.
    """
    return {
        name: hashlib.sha256(file.content).hexdigest() for name, file in files(strategy).items()
    }


def files(strategy: Mapping[str, Any]) -> dict[str, File]:
    """The files behind `digests`, by path in the project."""
    project = root().resolve()
    by_path: dict[str, File] = {}
    for name in filter(str.isidentifier, sorted(names_in(strategy))):
        path = below(folder(), name, ending=".py")
        if path.is_file():
            imports = local(path, project)
            by_path[f"experiments/strategies/{name}.py"] = imports.pop(path)
            by_path |= {
                other.relative_to(project).as_posix(): file for other, file in imports.items()
            }
    return dict(sorted(by_path.items()))


def names_in(config: Mapping[str, Any]) -> set[str]:
    """Every name of a strategy that a strategy's config holds, at any depth: that of an ensemble
    and those of its members.
    """
    inner = [value for value in config.values() if isinstance(value, Mapping)]
    return {str(config.get("name"))}.union(*map(names_in, inner))


@functools.lru_cache(maxsize=64)
def _loaded(path: Path, modified_ns: int, name: str) -> type[Strategy]:
    del modified_ns  # an edited file is another one
    module = _executed(path)
    classes = [
        cls
        for cls in vars(module).values()
        if isinstance(cls, type) and getattr(cls, "name", None) == name
    ]
    if len(classes) != 1 or not is_dataclass(classes[0]):
        raise ConfigError(
            f"{path} must hold one dataclass with name = {name!r}; it holds"
            f" {len(classes)} classes of that name",
            SKELETON,
        )
    cls = classes[0]
    missing = [part for part in PARTS if not hasattr(cls, part)]
    if missing:
        raise ConfigError(
            f"{path}: class {cls.__name__} has no {' and no '.join(missing)}", SKELETON
        )
    _refuse_parameters_without_default(cls, path)
    cls.signal = _checked(_with_error_lines(cls.signal, path), name)  # type: ignore[attr-defined]
    if hasattr(cls, "indicators"):
        cls.indicators = _with_error_lines(cls.indicators, path)
    return cast("type[Strategy]", cls)


def _refuse_parameters_without_default(cls: type[Any], path: Path) -> None:
    for field in fields(cls):
        if field.default is MISSING and field.default_factory is MISSING:
            message = f"{path}: parameter {field.name} of class {cls.__name__} has no default"
            raise ConfigError(message, f"write one: {field.name}: int = 10")


SKELETON = "mcl new strategy NAME writes one that works"


class _SourceLoader(SourceFileLoader):
    """Compiles the file as it is now. Bytecode on disk is told from its source by size and second
    alone: after an edit of equal length within a second it would be that of the version before.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Write none for the files of the project that are imported in here, for the same reason."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _executed(path: Path) -> ModuleType:
    """The module, with compiled functions in a cache of their own: an edit must not throw away
    those of the engine.
    """
    name = f"{PACKAGE}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_SourceLoader(name, str(path)))
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # type hints of its dataclass are looked up there
    access_recorder.begin(path)
    try:
        with own_cache(path), _no_bytecode(), access_recorder.observed(path):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise ConfigError(
            f"{_place(error, path)} cannot be loaded: {in_words(error)}", _cure(error)
        ) from error
    return module


def constructed(cls: type[Strategy], values: dict[str, Any]) -> Strategy:
    """An own strategy with these values and a memory that can be used. ConfigError with the line of
    what its code raises.
    """
    path = Path(str(sys.modules[cls.__module__].__file__))
    with _lines(path):
        strategy = cls(**values)
        memory, _ = strategy.memory, strategy.uses_levels
    if isinstance(memory, bool) or not isinstance(memory, int | np.integer) or memory < 0:
        message = f"{path}: memory of {cls.name} is {memory!r}, not a number of bars"
        raise ConfigError(message, "memory is a whole number, 0 or more")
    return strategy


@contextmanager
def _lines(path: Path, hint: str = "") -> Iterator[None]:
    """Report an error in a user's file as a sentence with its line."""
    try:
        with access_recorder.observed(path):
            yield
    except MclError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{_place(error, path)}: {in_words(error)}", hint or _cure(error)
        ) from error


def _place(error: BaseException, path: Path) -> str:
    """`FILE, line 3`, where the file has a part in the error."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{error.filename or path}, line {error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _cure(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return "correct this line"
    if isinstance(error, ModuleNotFoundError):
        return f"pip install what {error.name} belongs to, or leave the import out"
    if isinstance(error, SystemExit):
        return "leave sys.exit out: a strategy returns its signal"
    if "read-only" in str(error):
        return "bars are shared, and cannot be changed: work on a copy"
    return ""


def _with_error_lines(method: Callable[[Any, Bars], Any], path: Path) -> Callable[[Any, Bars], Any]:
    """The same method, whose errors are sentences with the line of the user's file."""

    @functools.wraps(method)
    def located(self: Any, bars: Bars) -> Any:
        with _lines(path):
            return method(self, bars)

    return located


def _checked(signal: Callable[[Any, Bars], Any], name: str) -> Callable[[Any, Bars], Floats]:
    @functools.wraps(signal)
    def checked(self: Any, bars: Bars) -> Floats:
        answer = signal(self, bars)
        try:
            values = np.asarray(answer, dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{name}.signal is not one number per bar: {error}") from error
        if values.shape != (len(bars),):
            raise ConfigError(
                f"{name}.signal has shape {values.shape}; it must be one value per bar,"
                f" ({len(bars)},)"
            )
        # NaN is not: it means that the strategy is warming up
        outside = np.abs(values) > 1.0 + TOLERANCE
        if outside.any():
            row = int(np.argmax(outside))
            raise ConfigError(
                f"{name}.signal is {values[row]:g} at {bars.times[row]}; it must lie in [-1, 1], or"
                " be NaN while warming up"
            )
        return values

    return checked
