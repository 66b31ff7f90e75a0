"""Mutations of one source file: small changes of its meaning, none of its texts, types or declarations."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
OPPOSITES = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
"""Comparisons whose swap is their negation."""

OPERATORS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
}
NAMES = {"any": "all", "all": "any", "min": "max", "max": "min", "amin": "amax", "amax": "amin"}
"""Functions and methods that are swapped."""

CHECKS = ("strict", "stacklevel")
"""Keyword arguments that check or decorate a call: without them correct code computes the same."""

REPORTS = ("warn", "warning", "info", "debug", "exception", "log", "_log")
"""Calls whose arguments are text for people."""

Shown = tuple[str, str, str, str]
"""File, function, and the lines before and after: a mutant as a reader knows it, wherever it has moved."""


@dataclass(frozen=True, order=True)
class Mutation:
    """One change of one file.

    Args:
        file: path relative to the root.
        line: the first line of the changed text, from 1.
        statement: the line where the statement around it begins.
        function: qualified name of the function or class around it; "" at module level.
        start, stop: bytes of the file that are replaced.
        text: what replaces them.
        before, after: the lines around the change, stripped and joined: what a reader sees of it.
    """

    file: str
    line: int
    statement: int
    function: str
    start: int
    stop: int
    text: str
    before: str
    after: str

    @property
    def shown(self) -> Shown:
        return self.file, self.function, self.before, self.after

    def applied_to(self, source: bytes) -> bytes:
        """Returns the file with the change."""
        return source[: self.start] + self.text.encode() + source[self.stop :]

    def parses_in(self, source: bytes) -> bool:
        """Whether the changed file is still Python."""
        try:
            ast.parse(self.applied_to(source))
        except SyntaxError:
            return False
        return True


def mutations_of(file: str, source: bytes) -> list[Mutation]:
    """Returns every mutation of a file, in its order; the few that do not parse are left for the sample to drop."""
    finder = _Finder(file, source)
    finder.visit(ast.parse(source))
    return sorted(set(finder.found))


class _Finder(ast.NodeVisitor):
    """Collects mutations; what is never mutated is never visited."""

    def __init__(self, file: str, source: bytes) -> None:
        self.file, self.source = file, source
        self.found: list[Mutation] = []
        self._scope: list[str] = []
        self._statement = 1
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            self._statement = node.lineno
        super().visit(node)

    # --- what is left alone ------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._scope.append(node.name)
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None:
                self.visit(default)
        self._visit_body(node.body)
        self._scope.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.append(node.name)
        self._visit_body(node.body)
        self._scope.pop()

    def visit_Module(self, node: ast.Module) -> None:
        self._visit_body(node.body)

    def _visit_body(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if not _is_text(statement):
                self.visit(statement)

    def visit_Import(self, node: ast.Import) -> None:
        """Imports declare."""

    visit_ImportFrom = visit_Global = visit_Nonlocal = visit_JoinedStr = visit_Import  # type: ignore[assignment]

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._visit_value(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            return
        first = self._scope[-1:] == ["__init__"]  # where an attribute is made, its loss is an AttributeError
        if not first and all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self._delete(node)
        for target in node.targets:
            self.visit(target)
        self._visit_value(node.value)

    def _visit_value(self, value: ast.expr) -> None:
        if self._scope or not (isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr)):  # a union of types
            self.visit(value)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._delete(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in NAMES:
            self._replace_name(node.func, NAMES[name])
        if name in REPORTS or name in ("cast", "TypeVar"):
            return
        self.visit(node.func)
        for argument in node.args[:1] if name in ("isinstance", "issubclass") else node.args:  # then come types
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg not in CHECKS:
                self.visit(keyword.value)

    # --- what is changed ---------------------------------------------------------------------------------------------

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant | ast.Yield | ast.YieldFrom):
            self._delete(node)
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._delete(node)
        self._swap(node.target, node.value, OPERATORS.get(type(node.op)))
        self.visit(node.target)
        self.visit(node.value)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self._delete(node)
        else:
            self.visit(node.value)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._delete(node)

    def visit_Break(self, node: ast.Break) -> None:
        self._delete(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'"):
            return
        self._negate(node.test)
        self.visit(node.test)
        self._visit_body(node.body)
        self._visit_body(node.orelse)

    def visit_While(self, node: ast.While) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self._negate(condition)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for left, right, operator in zip(sides, sides[1:], node.ops, strict=False):
            self._swap(left, right, COMPARISONS.get(type(operator)))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._swap(node.left, node.right, OPERATORS.get(type(node.op)))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for index in range(len(node.values)):
            rest = node.values[:index] + node.values[index + 1 :]
            kept = rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
            self._add(node, f"({ast.unparse(kept)})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not | ast.USub):
            self._add(node, f"({ast.unparse(node.operand)})")
        if not isinstance(node.operand, ast.Constant):
            self.visit(node.operand)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._add(node, str(not value))
        elif isinstance(value, int):
            self._add(node, str(value + 1))
        elif isinstance(value, float):
            self._add(node, repr(value * 2 if value else 1.0))

    # --- how ---------------------------------------------------------------------------------------------------------

    def _delete(self, node: ast.stmt) -> None:
        self._add(node, "pass")

    def _negate(self, test: ast.expr) -> None:
        swapped = isinstance(test, ast.Compare) and isinstance(test.ops[0], OPPOSITES)
        if not swapped and not isinstance(test, ast.UnaryOp | ast.Constant):  # `not x` loses its `not`
            self._add(test, f"(not ({ast.unparse(test)}))")

    def _replace_name(self, function: ast.expr, name: str) -> None:
        stop = self._at(function.end_lineno, function.end_col_offset)
        self._record(function, stop - len(function.id if isinstance(function, ast.Name) else function.attr), stop, name)  # type: ignore[attr-defined]

    def _swap(self, left: ast.expr, right: ast.expr, words: tuple[str, str] | None) -> None:
        """Replaces the operator between two expressions."""
        if words is None:
            return
        old, new = words
        start = self._at(left.end_lineno, left.end_col_offset)
        between = self.source[start : self._at(right.lineno, right.col_offset)].decode()
        match = re.search(r"\s+".join(map(re.escape, old.split())), between)
        if match is not None and "#" not in between:
            at = start + len(between[: match.start()].encode())
            self._record(left, at, at + len(match.group().encode()), new)

    def _add(self, node: ast.expr | ast.stmt, text: str) -> None:
        start, stop = self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)
        self._record(node, start, stop, text)

    def _record(self, node: ast.expr | ast.stmt, start: int, stop: int, text: str) -> None:
        first = max(i for i, begin in enumerate(self._starts) if begin <= start)
        last = max(i for i, begin in enumerate(self._starts) if begin < stop)
        begin, end = self._starts[first], self._starts[last + 1]
        before = self.source[begin:end]
        after = self.source[begin:start] + text.encode() + self.source[stop:end]
        scope = ".".join(self._scope)
        self.found.append(
            Mutation(
                self.file, first + 1, self._statement, scope, start, stop, text, _one_line(before), _one_line(after)
            )
        )

    def _at(self, line: int | None, column: int | None) -> int:
        if line is None or column is None:
            raise ValueError("a node without a place was not made by ast.parse")
        return self._starts[line - 1] + column


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _one_line(text: bytes) -> str:
    return " ".join(text.decode().split())
