"""The changes that mutants are made of, on syntax trees.

Changed are arithmetic, comparisons, boolean operators, signs, numbers, flags, arguments of calls
and functions with an opposite (``min`` and ``max``). Left alone are texts, docstrings, annotations,
decorators, ``raise`` and ``assert`` statements, guards against division by zero, and arguments that
say nothing on a CPU.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

# Each operator becomes the one or the several beside it.
_OPERATORS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
_OPPOSITES = (
    ("min", "max"), ("minimum", "maximum"), ("amin", "amax"), ("argmin", "argmax"),
    ("clamp_min", "clamp_max"), ("sum", "mean"), ("any", "all"), ("floor", "ceil"),
    ("log1p", "log"), ("zeros", "ones"), ("zeros_like", "ones_like"), ("sin", "cos"),
    ("cummin", "cummax"),
)  # fmt: skip
_OPPOSITE = {a: b for pair in _OPPOSITES for a, b in (pair, pair[::-1])}
# A guard against division by zero; twice as small a guard guards as well.
_GUARD = 1e-5
_COMMUTATIVE = ("min", "max", "minimum", "maximum", "transpose")
# Say where to compute (device), check what never happens (strict), or are text.
_SILENT = ("device", "non_blocking", "strict", "description", "name", "stacklevel")


#: The number of the mutant that is no mutant.
UNCHANGED = -1


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        file: Path below the root of the repository.
        number: Position among the mutants of the file.
        line: First line of the change.
        last_line: Its last line.
        function: Qualified name of the outermost function around it that is no method's inner
            function; empty where the change acts at import.
        before: The changed expression.
        after: What it becomes.
        repeat: How many equal changes of the function stand before it.
    """

    file: str
    number: int
    line: int
    last_line: int
    function: str
    before: str
    after: str
    repeat: int = 0

    @property
    def key(self) -> str:
        """What identifies it as long as the line's code stays: file, function and change."""
        again = f" ({self.repeat + 1})" if self.repeat else ""
        return f"{self.file}:{self.function}:{self.before} -> {self.after}{again}"


@dataclass(frozen=True)
class _Change:
    node: ast.AST
    replacement: ast.AST
    shown: ast.AST
    function: str


def mutants_of(root: Path, file: str) -> list[Mutant]:
    """Return all mutants of a file."""
    mutants: list[Mutant] = []
    repeats: Counter[str] = Counter()
    for number, change in enumerate(_changes(_tree(root / file))):
        mutant = Mutant(
            file,
            number,
            change.shown.lineno,  # type: ignore[attr-defined]
            change.shown.end_lineno,  # type: ignore[attr-defined]
            change.function,
            ast.unparse(change.shown),
            ast.unparse(_applied(change.shown, change)),
        )
        mutants.append(replace(mutant, repeat=repeats[mutant.key]))
        repeats[mutant.key] += 1
    return mutants


def mutated_tree(root: Path, mutant: Mutant) -> ast.Module:
    """Return the tree of the mutant's file with the change, positions kept."""
    tree = _tree(root / mutant.file)
    if mutant.number == UNCHANGED:
        return tree
    changed = _applied(tree, list(_changes(tree))[mutant.number])
    assert isinstance(changed, ast.Module)
    return changed


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


class _Replace(ast.NodeTransformer):
    def __init__(self, change: _Change) -> None:
        self._change = change

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self._change.node:
            return ast.copy_location(self._change.replacement, node)
        return self.generic_visit(node)


def _applied(tree: ast.AST, change: _Change) -> ast.AST:
    """Return a copy of ``tree`` with the change; its node is found by identity."""
    memo: dict[int, object] = {id(change.node): change.node}
    copied = copy.deepcopy(tree, memo)
    return ast.fix_missing_locations(_Replace(change).visit(copied))


def _changes(tree: ast.Module) -> Iterator[_Change]:
    yield from _walk(tree, tree, "", False)


def _walk(node: ast.AST, shown: ast.AST, function: str, inside: bool) -> Iterator[_Change]:
    if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        # Defaults of a function act when it is defined, outside its own body.
        if isinstance(node, ast.FunctionDef):
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                if default is not None:
                    yield from _walk(default, default, function if inside else "", inside)
        within = inside or isinstance(node, ast.FunctionDef)
        name = function if inside else f"{function}.{node.name}".lstrip(".")
        for child in node.body:
            yield from _walk(child, child, name, within)
        return
    if isinstance(node, ast.AnnAssign):
        if node.value is not None:
            yield from _walk(node.value, node, function, inside)
        return
    acts_in = function if inside else ""
    if isinstance(node, ast.expr):
        yield from (
            _Change(node, replacement, shown, acts_in) for replacement in _replacements(node)
        )
    elif isinstance(node, ast.AugAssign):
        for operator in _OPERATORS.get(type(node.op), ()):
            replacement = ast.AugAssign(node.target, operator(), node.value)
            yield _Change(node, replacement, node, acts_in)
    for child in _children(node):
        own = isinstance(child, ast.stmt) or (isinstance(child, ast.expr) and _is_compound(shown))
        yield from _walk(child, child if own else shown, function, inside)


def _is_compound(node: ast.AST) -> bool:
    # Of a compound statement (if, for, with) only the changed expression is shown.
    return isinstance(node, ast.stmt) and hasattr(node, "body")


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "ctx"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.keyword) and child.arg in _SILENT:
                continue
            if isinstance(child, ast.AST):
                yield child


def _replacements(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp):
        for operator in _OPERATORS.get(type(node.op), ()):
            yield ast.BinOp(node.left, operator(), node.right)  # type: ignore[call-arg,arg-type]
    elif isinstance(node, ast.BoolOp):
        for operator in _OPERATORS[type(node.op)]:
            yield ast.BoolOp(operator(), node.values)  # type: ignore[arg-type]
    elif isinstance(node, ast.Compare):
        for place, old in enumerate(node.ops):
            for operator in _OPERATORS[type(old)]:
                ops = [*node.ops[:place], operator(), *node.ops[place + 1 :]]
                yield ast.Compare(node.left, ops, node.comparators)  # type: ignore[arg-type]
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from _constants(node.value)
    elif isinstance(node, ast.Call):
        yield from _calls(node)


def _constants(value: object) -> Iterator[ast.expr]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, float) and not 0 < value < _GUARD:
        yield ast.Constant(value * 2 if value else 1.0)


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    named = [key for key in node.keywords if key.arg is not None and key.arg not in _SILENT]
    for key in named:
        rest = [other for other in node.keywords if other is not key]
        yield ast.Call(node.func, node.args, rest)
    plain = [arg for arg in node.args if not isinstance(arg, ast.Starred)]
    function = ast.unparse(node.func)
    differ = len(plain) == len(node.args) >= 2 and ast.dump(plain[0]) != ast.dump(plain[1])
    ordered = function.rpartition(".")[2] not in _COMMUTATIVE
    if differ and ordered and function not in ("isinstance", "hasattr", "getattr", "super"):
        yield ast.Call(node.func, [plain[1], plain[0], *plain[2:]], node.keywords)
    if isinstance(node.func, ast.Attribute) and node.func.attr in _OPPOSITE:
        func = ast.Attribute(node.func.value, _OPPOSITE[node.func.attr], node.func.ctx)
        yield ast.Call(func, node.args, node.keywords)
    elif isinstance(node.func, ast.Name) and node.func.id in _OPPOSITE:
        func_name = ast.Name(_OPPOSITE[node.func.id], node.func.ctx)
        yield ast.Call(func_name, node.args, node.keywords)
