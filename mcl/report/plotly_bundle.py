"""plotly.js with the kinds of chart that a page draws, made from the one that the package `plotly`
brings: 1.2 MB in place of 4.8 MB. Without maps, globes and three dimensions it is also read faster.

The file is a sequence of modules, `var NAME=WRAP((…)=>{…});`, and its last one registers the kinds:
`.register([bar(),box(),…])`. Kinds that are not wanted are left out of that list, and with them
every module that nothing calls any more. A file that is built in another way stays whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator

# of every page
KINDS = frozenset({"bar", "candlestick", "heatmap", "histogram", "scatter", "waterfall"})
EXTRA = frozenset({"box", "parcoords", "scattergl", "violin"})  # of a page that has such a chart
MODULE = re.compile(r"var ([\w$]+)=([\w$]+)\((?:\(|[\w$]+=>)")
CALL = re.compile(r"(?<![\w$.])([\w$]+)\(")
KIND = re.compile(r'moduleType:"trace",name:"(\w+)"')
ASSIGNED = re.compile(r"(?:var |,)([\w$]+)=([\w$]+)\((?:\(|[\w$]+=>)")
LIST = re.compile(r"\.register\(\[((?:[\w$]+\(\),?)+)\]\)")
LEAST_MODULES = 100  # of a file that is built in the expected way
LEAST_USES = 20  # of a function that wraps modules
DEPTH = 3  # calls from the module of the list to the one that names its kind


def bundle(source: str, kinds: Collection[str]) -> str:
    """plotly.js that draws `kinds`; `source` itself where it is not built as expected."""
    heads = _heads(source)
    listed = LIST.search(source, heads[-1].start()) if heads else None
    if len(heads) < LEAST_MODULES or listed is None:
        return source
    starts = [head.start() for head in heads]
    modules = {
        head[1]: source[head.start() : end] for head, end in zip(heads, starts[1:], strict=False)
    }
    wanted = [name for name in _names(listed[1]) if _kind(name, modules) in kinds]
    if not wanted:
        return source
    calls = ",".join(f"{name}()" for name in wanted)
    last = source[starts[-1] : listed.start()] + f".register([{calls}])" + source[listed.end() :]
    reached = _reached(last, modules)
    return source[: starts[0]] + "".join(modules[n] for n in modules if n in reached) + last


def _heads(source: str) -> list[re.Match[str]]:
    """The beginnings of the modules: assignments of a call of the function that most use."""
    matches = list(MODULE.finditer(source))
    wrap = Counter(head[2] for head in matches).most_common(1)
    return [head for head in matches if head[2] == wrap[0][0]]


def _names(listed: str) -> list[str]:
    return [call.removesuffix("()") for call in listed.split(",") if call]


def _kind(name: str, modules: dict[str, str]) -> str:
    """The kind of chart that a module of the list stands for; empty for one that is no chart."""
    names = [name]
    for _ in range(DEPTH):
        for module in names:
            if kind := KIND.search(modules.get(module, "")):
                return kind[1]
        names = [
            call for module in names for call in _calls(modules.get(module, "")) if call in modules
        ]
    return ""


def _calls(text: str) -> Iterator[str]:
    return iter(dict.fromkeys(CALL.findall(text)))


def _reached(last: str, modules: dict[str, str]) -> set[str]:
    """The modules that the last one calls, those that these call, and so on."""
    owner = _owners(modules)
    waiting, reached = [last], set[str]()
    while waiting:
        for name in _calls(waiting.pop()):
            module = owner.get(name)
            if module is not None and module not in reached:
                reached.add(module)
                waiting.append(modules[module])
    return reached


def _owners(modules: dict[str, str]) -> dict[str, str]:
    """Map each name to the module whose text declares it. Modules of the newer form, which another
    function wraps, stand in the text of the module before them.
    """
    pairs = {module: ASSIGNED.findall(text) for module, text in modules.items()}
    uses = Counter(wrap for names in pairs.values() for _, wrap in names)
    return {
        name: module
        for module, names in pairs.items()
        for name, wrap in names
        if uses[wrap] >= LEAST_USES
    }
