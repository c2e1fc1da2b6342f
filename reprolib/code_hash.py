"""What measured: one hash of a function and of everything of ours that its names reach, for the keys of kept measurements.

Names are followed through the syntax trees of reprolib's modules, and through the globals and closures of functions written elsewhere
(a notebook's cells). Comments, docstrings and messages of errors do not count. What shapes no measured number is not followed.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import inspect
import sys
import sysconfig
import textwrap
import time
import types
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch

from reprolib.errors import BadInput
from reprolib.store import content_key

LOADED = time.time()
PACKAGE = Path(__file__).parent
NOT_FOLLOWED = (
    "cli", "code_hash", "display", "errors", "figures", "front_end", "judging", "parameters", "provenance", "registry", "run", "scales", "store",
    "study",
)  # fmt: skip
"""Rooms whose code shapes no measured number: knobs and networks have places of their own in a key."""

TELLING = ("report", "announce")
"""Functions under these names tell how far the work is, and measure nothing."""

Node = ast.AST


def code_of(function: Callable[..., Any]) -> str:
    """The sha256 of a function's code, and of the functions, classes and constants of reprolib or a notebook that its names reach.

    Globals and closures of a notebook's function count by value: literals, tensors, networks and images. Raises BadInput, naming it,
    for a global of another kind, and for a module that was edited after it was loaded: its old code would run under the new code's name.
    """
    parts: dict[str, str] = {}
    _follow_callable("", function, parts)
    return content_key(parts)


@cache
def _code_of_ours(module: str, name: str) -> str:
    parts: dict[str, str] = {}
    _follow_definition(module, name, parts)
    return content_key(parts)


def _follow_callable(name: str, value: Any, parts: dict[str, str]) -> None:
    """Follow a function or class wherever it is written; of a function defined inside another of ours, the whole outer one and what it closes over."""
    value = inspect.unwrap(getattr(value, "__func__", value))
    if isinstance(value, functools.partial):
        for one in (*value.args, *value.keywords.values()):
            if callable(one) and not isinstance(one, torch.nn.Module):
                _follow_callable(name, one, parts)
        _follow_callable(name, value.func, parts)
    elif _is_ours(getattr(value, "__module__", None) or ""):
        outer = getattr(value, "__qualname__", type(value).__qualname__).split(".")[0]
        parts[f"{value.__module__}.{outer}"] = _code_of_ours(value.__module__, outer)
        for closed, held in inspect.getclosurevars(value).nonlocals.items() if isinstance(value, types.FunctionType) else ():
            if callable(held) and closed not in TELLING and not isinstance(held, torch.nn.Module):
                _follow_callable(f"{name}{closed}.", held, parts)
    elif isinstance(value, (types.FunctionType, type)) and not _is_installed(value):
        _follow_foreign(value, parts)


def _is_ours(module: str) -> bool:
    first, _, rest = module.partition(".")
    return first == "reprolib" and rest.partition(".")[0] not in NOT_FOLLOWED


def _file(module: str) -> Path | None:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@cache
def _names(module: str) -> dict[str, list[Node]]:
    """Every name that a module of ours defines or imports at its top, with the statements that do."""
    file = _file(module)
    if file is None:
        return {}
    text = file.read_text(encoding="utf-8")
    if file.stat().st_mtime > LOADED:
        _check_loaded(module, text)
    found: dict[str, list[Node]] = {}
    for node in _statements(ast.parse(text).body):
        for name in _bound(node):
            found.setdefault(name, []).append(node)
    return found


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from _statements(node.body)
        yield node


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return []


def _check_loaded(module: str, text: str) -> None:
    """Refuse a file that no longer holds the functions that are loaded from it."""
    loaded, there = sys.modules.get(module), compile(text, module, "exec", dont_inherit=True)
    on_disk = {code.co_name: code for code in there.co_consts if isinstance(code, types.CodeType)}
    for name, value in vars(loaded).items() if loaded else ():
        value = inspect.unwrap(value) if callable(value) else value
        is_own = isinstance(value, types.FunctionType) and value.__module__ == module and value.__name__ == name
        if is_own and (name not in on_disk or _instructions(value.__code__) != _instructions(on_disk[name])):
            raise BadInput(f"{module} was edited after it was loaded ({name} is another one now): restart the kernel and run again")


def _instructions(code: types.CodeType) -> tuple[Any, ...]:
    constants = tuple(_instructions(one) if isinstance(one, types.CodeType) else repr(one) for one in code.co_consts)
    return code.co_code, constants, code.co_names


def _globals_read(code: types.CodeType) -> set[str]:
    """The globals that a function's code reads, and what is nested in it: lambdas, comprehensions and functions inside."""
    found = {one.argval for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return found.union(*(_globals_read(one) for one in code.co_consts if isinstance(one, types.CodeType)))


def _follow_definition(module: str, name: str, parts: dict[str, str]) -> None:
    """Note the statements that define `name` in a module of ours, and follow what they name."""
    key = f"{module}.{name}"
    if key in parts or not _is_ours(module):
        return
    nodes = _names(module).get(name, [])
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            origin = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
            _follow_definition(node.module, origin, parts)
            return
    if not nodes or any(isinstance(node, ast.Import) for node in nodes):
        return
    parts[key] = "\n".join(_meaning(node) for node in nodes)
    for node in nodes:
        for chain in _chains(node):
            if chain[0] != name:
                _follow_chain(module, chain, parts)


def _follow_chain(module: str, chain: tuple[str, ...], parts: dict[str, str]) -> None:
    """Follow a.b.c as it is written in a module of ours: through modules to the definition."""
    here, rest = module, chain
    while rest:
        target = _module_named(here, rest[0])
        if target is None:
            _follow_definition(here, rest[0], parts)
            return
        here, rest = target, rest[1:]


def _module_named(module: str, name: str) -> str | None:
    """The module of ours that `name` stands for in a module of ours, if it stands for one."""
    for node in _names(module).get(name, []):
        for alias in node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else []:
            if (alias.asname or alias.name).split(".")[0] == name:
                full = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else (alias.name if alias.asname else name)
                return full if full.startswith("reprolib") and _file(full) is not None else None
    return f"{module}.{name}" if name not in _names(module) and _file(f"{module}.{name}") is not None else None


def _follow_foreign(function: Callable[..., Any], parts: dict[str, str]) -> None:
    """Note a function that is written elsewhere, in a notebook's cell, and what its globals and closure hold."""
    key = f"{function.__module__}.{function.__qualname__}"
    if key in parts:
        return
    try:
        node: Node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        parts[key] = _meaning(node)
    except (OSError, TypeError, SyntaxError) as error:  # a lambda in the midst of a line, or no file: its instructions stand for it
        if not isinstance(function, types.FunctionType):
            raise BadInput(
                f"the source of {key} cannot be read: define it in a cell or a file, or nothing it measures can be kept"
            ) from error
        parts[key] = repr(_instructions(function.__code__))
        node = ast.Expr(
            ast.Tuple(
                [ast.Name(name, ast.Load()) for name in sorted({*function.__code__.co_names, *_globals_read(function.__code__)})],
                ast.Load(),
            )
        )
    held: dict[str, Any] = {}
    for one in vars(function).values() if isinstance(function, type) else [function]:
        if isinstance(one, types.FunctionType):
            closed = inspect.getclosurevars(one)
            nested = {name: one.__globals__[name] for name in _globals_read(one.__code__) if name in one.__globals__}
            held |= {**nested, **closed.globals, **closed.nonlocals}
    for chain in sorted(set(_chains(node))):
        if chain[0] in held:
            _follow_value(key, chain, held[chain[0]], parts)


def _follow_value(key: str, chain: tuple[str, ...], value: Any, parts: dict[str, str]) -> None:
    while isinstance(value, types.ModuleType) and len(chain) > 1:
        chain, value = chain[1:], getattr(value, chain[1], None)
    name = f"{key}: {chain[0]}"
    if isinstance(value, types.ModuleType) or value is None or isinstance(value, types.BuiltinFunctionType):
        return
    if callable(value) and not isinstance(value, torch.nn.Module):
        _follow_callable(f"{name}.", value, parts)
        return
    parts[name] = _by_value(name, value)


def _is_installed(value: Any) -> bool:
    try:
        file = inspect.getsourcefile(value) or ""
    except TypeError:
        return True
    return not file or "site-packages" in file or file.startswith(sysconfig.get_path("stdlib"))


def _by_value(name: str, value: Any) -> str:
    """A text that stands for a value; raises BadInput for one of another kind than literals, tensors, networks and images."""
    if isinstance(value, (bool, int, float, str, bytes, complex, torch.dtype, torch.device)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_by_value(name, one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_by_value(name, one)}' for key, one in value.items())}}}"
    if isinstance(value, torch.Tensor):
        held = value.detach().cpu().contiguous()
        return f"{held.dtype} {tuple(held.shape)} {hashlib.sha256(held.flatten().view(torch.uint8).numpy().tobytes()).hexdigest()}"
    if isinstance(value, torch.nn.Module):
        return f"{type(value).__qualname__} {_by_value(name, dict(value.state_dict()))}"
    if isinstance(getattr(value, "sha256", None), str):
        return f"{type(value).__qualname__} {value.sha256}"
    raise BadInput(
        f"{name} is a {type(value).__qualname__}, and a measurement is kept only where what it depends on can be told: "
        "use numbers, texts, tensors, networks and images, or hand it to the question as an argument"
    )


def _chains(node: Node) -> Iterator[tuple[str, ...]]:
    """Every name that is read, with the attributes that follow it: a.b.c as ("a", "b", "c")."""
    for one in ast.walk(node):
        attributes: list[str] = []
        base: Node = one
        while isinstance(base, ast.Attribute):
            attributes.insert(0, base.attr)
            base = base.value
        if isinstance(base, ast.Name) and isinstance(base.ctx, ast.Load):
            yield (base.id, *attributes)


class _Bare(ast.NodeTransformer):
    """Without docstrings, and without the words of errors."""

    def generic_visit(self, node: Node) -> Node:
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
        return super().generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> Node:
        return ast.Raise()


def _meaning(node: Node) -> str:
    return ast.dump(_Bare().visit(ast.parse(ast.unparse(node))))
