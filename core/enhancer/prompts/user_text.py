"""Compile the user text of a template in a restricted Jinja2 sandbox.

A user text may hold conditions, loops over lists, and filters. Before anything is compiled, the syntax tree is checked
against a list of allowed nodes: names are the declared values and loop variables, the only attributes are
``fields.NAME``, and there are no calls, arithmetic, macros, imports, assignments, tests or nested loops. Columns become
plain variables, so the compiled code accesses no attribute at all. Jinja2's sandbox is the second line of defence; by
itself it would allow methods of strings, the ``attr`` filter, ``range`` and ``"x" * 10**9``.

Every value is quoted as data when it is written, after all filters.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

from jinja2 import TemplateError, TemplateSyntaxError, nodes, pass_context
from jinja2.environment import Template as CompiledTemplate
from jinja2.sandbox import ImmutableSandboxedEnvironment

from enhancer.errors import ConfigError, did_you_mean
from enhancer.prompts.filters import FILTERS, list_elements
from enhancer.prompts.quoting import (
    HELD_BRACKET,
    MAX_VALUE,
    end_in_bracket,
    hold_brackets,
    neutralize,
    neutralize_all,
    release_brackets,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jinja2.runtime import Context

CONTEXT_NAMES = ("history", "recent", "lasting", "reviews")
"""Names of the values that come from other tables than the entity's own."""
VALUE_NAMES = ("id", "title", "text", *CONTEXT_NAMES)
"""Names of the declared values, beside ``fields.NAME``."""
WHOLE_NAMES = ("reviews",)
"""Names of the values that are written as they are: their text may not be known yet when a prompt is rendered."""
FIELD_PREFIX = "fields."
MAX_RENDERED = 5 * MAX_VALUE
"""Maximum number of characters of values in one rendering of a text with conditions, loops or filters."""
_LOOP_FILTER = "_elements"
_REMAINING = " remaining"
"""Key of the number of characters left in a rendering; no template can name it."""
_PLACEHOLDER = re.compile(r"\{\{\s*(fields\.(?![^\W\d]\w*\s*\}\}).*?)\s*\}\}")
"""A placeholder of a column whose name may not be an identifier."""
_COLUMN_NAME = re.compile(r"""(?!.*(?:\w\(|__))[^|~"'\[\]{}=<>]+""")
_COMPARISONS = frozenset({"eq", "ne", "lt", "lteq", "gt", "gteq", "in", "notin"})


class UserText:
    """A compiled user text.

    Args:
        source: The text. Without a ``<data>`` marker, all of it is enclosed in one.
        where: Name of the template for error messages.

    Attributes:
        source: The text with its markers.
        names: Names of the values that it uses.
        tested: Names of the values that a condition tests, so that the text can do without them.

    Raises:
        ConfigError: The text is not valid, or uses something that is not allowed. The message names the line.
    """

    def __init__(self, source: str, where: str) -> None:
        wrapped = "<data>" not in source
        self.source = f"<data>\n{source}\n</data>" if wrapped else source
        self._where = where
        checker = _Checker(where, first_line=2 if wrapped else 1, lines=source.count("\n") + 1)
        body = checker.check(_quote_column_names(self.source))
        self.names = tuple(checker.variables)
        self._variables = tuple(checker.variables.values())
        self.tested = frozenset(checker.tested)
        self._pattern: str | None = None
        self._pattern_order: tuple[int, ...] = ()
        self._template: CompiledTemplate | None = None
        if (plain := _plain_pattern(body, self._variables)) is not None:
            self._pattern, self._pattern_order = plain
        else:
            environment = _environment()
            code = environment.compile(body)
            self._template = CompiledTemplate.from_code(environment, code, {})

    def render_all(self, values: Sequence[Sequence[str]], describe: Callable[[int], str]) -> list[str]:
        """Render the text for each row.

        Args:
            values: The values of each name in :attr:`names`, row by row.
            describe: Returns a description of a row for error messages.

        Raises:
            ConfigError: An expression fails, for example because it compares a text to a number.
        """
        if self._pattern is not None:
            return self._render_plain([values[n] for n in self._pattern_order])
        assert self._template is not None
        render, new_context = self._template.root_render_func, self._template.new_context
        rendered = []
        for number, row in enumerate(zip(*values, strict=True)):
            variables: dict[str, object] = dict(zip(self._variables, row, strict=True))
            variables[_REMAINING] = [MAX_RENDERED]
            try:
                text = "".join(render(new_context(variables, shared=True)))
            except (TemplateError, ArithmeticError, TypeError, ValueError) as error:
                raise ConfigError(f"{self._where}: cannot render 'user' for {describe(number)}: {error}") from None
            rendered.append(release_brackets(text) if HELD_BRACKET in text else text)
        return rendered

    def _render_plain(self, values: Sequence[Sequence[str]]) -> list[str]:
        """Fill the pattern of a text that is literals and values only, which is ten times as fast."""
        assert self._pattern is not None
        quoted = [neutralize_all(column, MAX_VALUE) for column in values]
        # A column that neutralize_all returns as it is holds no bracket at all.
        held = [n for n, column in enumerate(quoted) if column is not values[n] and end_in_bracket(column)]
        for n in held:
            quoted[n] = list(map(hold_brackets, quoted[n]))
        rendered = list(map(self._pattern.__mod__, zip(*quoted, strict=True)))
        return [release_brackets(text) if HELD_BRACKET in text else text for text in rendered] if held else rendered


class _Checker:
    """Checks a syntax tree against the allowed nodes and replaces columns by variables."""

    def __init__(self, where: str, *, first_line: int = 1, lines: int = 1) -> None:
        self._where = where
        self._first_line = first_line
        self._lines = lines
        self.variables: dict[str, str] = {}
        """Variable of each value that is used."""
        self.tested: set[str] = set()
        """Values whose presence a condition tests."""

    def check(self, source: str) -> nodes.Template:
        try:
            tree = _environment().parse(source)
        except TemplateSyntaxError as error:
            self._refuse(error.lineno, error.message or "syntax error")
        except RecursionError:
            self._refuse(1, "nested too deeply")
        self._check_block(tree.body, inside=False, scope=())
        if not self.variables:
            raise ConfigError(
                f"{self._where}: 'user' holds no placeholder", hint="write {{ text }} where the entity's text goes"
            )
        return tree

    def _refuse(self, line: int, problem: str, hint: str | None = None) -> NoReturn:
        line = min(max(1, line - self._first_line + 1), self._lines)
        raise ConfigError(f"{self._where}, line {line} of 'user': {problem}", hint=hint)

    def _check_block(self, body: Sequence[nodes.Node], *, inside: bool, scope: tuple[str, ...]) -> bool:
        """Check statements; return whether their end lies inside ``<data>``."""
        for node in body:
            if isinstance(node, nodes.Output):
                inside = self._check_output(node, inside=inside, scope=scope)
            elif isinstance(node, nodes.If):
                inside = self._check_if(node, inside=inside, scope=scope)
            elif isinstance(node, nodes.For):
                inside = self._check_for(node, inside=inside, scope=scope)
            else:
                self._refuse(
                    node.lineno,
                    f"{_statement_name(node)} is not allowed",
                    "templates have conditions, loops over lists and filters",
                )
        return inside

    def _check_output(self, node: nodes.Output, *, inside: bool, scope: tuple[str, ...]) -> bool:
        for n, child in enumerate(node.nodes):
            if isinstance(child, nodes.TemplateData):
                opened, closed = child.data.rfind("<data>"), child.data.rfind("</data>")
                inside = inside if opened == closed else opened > closed
                continue
            node.nodes[n] = self._check_expression(child, scope, whole=True)
            if not inside:
                self._refuse(
                    child.lineno,
                    "a placeholder stands outside <data> … </data>",
                    "values must be marked as data: move it between the markers",
                )
        return inside

    def _check_if(self, node: nodes.If, *, inside: bool, scope: tuple[str, ...]) -> bool:
        ends = set()
        for branch in (node, *node.elif_):
            branch.test = self._check_test(branch.test, scope)
            ends.add(self._check_block(branch.body, inside=inside, scope=scope))
        ends.add(self._check_block(node.else_, inside=inside, scope=scope))
        if len(ends) > 1:
            self._refuse(node.lineno, "only one branch of a condition opens or closes <data>")
        return ends.pop()

    def _check_test(self, node: nodes.Node, scope: tuple[str, ...]) -> nodes.Expr:
        """Check the test of a condition, and note the values whose presence it tests."""
        if isinstance(node, nodes.Name):
            if node.name not in scope:
                self.tested.add(node.name)
            return self._check_expression(node, scope, whole=True)
        if isinstance(node, nodes.Not):
            node.node = self._check_test(node.node, scope)
            return node
        if isinstance(node, nodes.And | nodes.Or):
            node.left, node.right = self._check_test(node.left, scope), self._check_test(node.right, scope)
            return node
        return self._check_expression(node, scope)

    def _check_for(self, node: nodes.For, *, inside: bool, scope: tuple[str, ...]) -> bool:
        if not isinstance(node.target, nodes.Name) or node.recursive:
            self._refuse(node.lineno, "a loop must have the form {% for NAME in LIST %}")
        name = node.target.name
        if scope:
            self._refuse(node.lineno, "loops cannot be nested")
        if name in VALUE_NAMES or name in {"fields", "loop"} or name.startswith("_"):
            self._refuse(node.lineno, f"a loop variable cannot be called {name!r}")
        # The filter raises unless the value is a list, and limits the number of iterations.
        elements = self._check_expression(node.iter, scope)
        node.iter = nodes.Filter(elements, _LOOP_FILTER, [], [], None, None, lineno=node.lineno)
        if node.test is not None:
            node.test = self._check_expression(node.test, (name,))
        ends = {inside, self._check_block(node.body, inside=inside, scope=(name,))}
        ends.add(self._check_block(node.else_, inside=inside, scope=scope))
        if len(ends) > 1:
            self._refuse(node.lineno, "<data> must be closed in the loop that opens it")
        return inside

    def _check_expression(self, node: nodes.Node, scope: tuple[str, ...], *, whole: bool = False) -> nodes.Expr:
        """Check an expression; return it with columns replaced by variables.

        Args:
            node: The expression.
            scope: Loop variables.
            whole: Whether its value is written or tested as it is.
        """
        if isinstance(node, nodes.Const):
            return node
        if isinstance(node, nodes.Name):
            if node.name in WHOLE_NAMES and node.name not in scope and not whole:
                self._refuse(
                    node.lineno,
                    f"'{node.name}' can only be written as it is, {{{{ {node.name} }}}}, or tested by a condition",
                    f"[prompts.item] {node.name}_budget limits its length",
                )
            return self._check_name(node, scope)
        if isinstance(node, nodes.Getattr | nodes.Getitem):
            return self._check_subscript(node, scope)
        if isinstance(node, nodes.Filter):
            return self._check_filter(node, scope)
        if isinstance(node, nodes.Neg) and isinstance(node.node, nodes.Const):
            return node
        if not isinstance(
            node,
            nodes.And | nodes.Or | nodes.Not | nodes.Compare | nodes.CondExpr | nodes.Concat | nodes.List | nodes.Tuple,
        ):
            self._refuse(node.lineno, f"{_expression_name(node)} is not allowed", "see the list of filters")
        self._check_operands(node, scope)
        return node

    def _check_operands(self, node: nodes.Node, scope: tuple[str, ...]) -> None:
        for field, child in node.iter_fields():
            if isinstance(child, nodes.Expr):
                setattr(node, field, self._check_expression(child, scope))
            elif isinstance(child, list):
                for n, element in enumerate(child):
                    if isinstance(element, nodes.Operand):
                        if element.op not in _COMPARISONS:
                            self._refuse(node.lineno, f"the operator {element.op!r} is not allowed")
                        element.expr = self._check_expression(element.expr, scope)
                    else:
                        child[n] = self._check_expression(element, scope)

    def _check_name(self, node: nodes.Name, scope: tuple[str, ...]) -> nodes.Name:
        if node.name in scope:
            return node
        if node.name not in VALUE_NAMES:
            if node.name == "fields":
                self._refuse(node.lineno, "'fields' needs the name of a column", "write {{ fields.COLUMN }}")
            known = (*VALUE_NAMES, *scope)
            hint = did_you_mean(node.name, known)
            self._refuse(node.lineno, f"unknown placeholder {{{{ {node.name} }}}}", f"{hint} (or fields.COLUMN)")
        return self._variable(node.name, node)

    def _check_subscript(self, node: nodes.Getattr | nodes.Getitem, scope: tuple[str, ...]) -> nodes.Expr:
        column = _column_of(node)
        if column is not None:
            if isinstance(node, nodes.Getattr) and "__" in column:
                self._refuse(
                    node.lineno,
                    f"{FIELD_PREFIX}{column} is not allowed",
                    f"a column of that name is written fields[{json.dumps(column)}]",
                )
            return self._variable(f"{FIELD_PREFIX}{column}", node)
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            for bound in (node.arg.start, node.arg.stop, node.arg.step):
                constant = bound.node if isinstance(bound, nodes.Neg) else bound
                if constant is not None and not (isinstance(constant, nodes.Const) and type(constant.value) is int):
                    self._refuse(node.lineno, "the bounds of a slice must be whole numbers")
            node.node = self._check_expression(node.node, scope)
            return node
        shown = f".{node.attr}" if isinstance(node, nodes.Getattr) else "[…]"
        return self._refuse(node.lineno, f"{shown} is not allowed", "the only attributes are fields.COLUMN")

    def _check_filter(self, node: nodes.Filter, scope: tuple[str, ...]) -> nodes.Filter:
        if node.name not in FILTERS:
            self._refuse(node.lineno, f"unknown filter {node.name!r}", did_you_mean(node.name, FILTERS))
        most = FILTERS[node.name].max_arguments
        if node.node is None or node.kwargs or node.dyn_args or node.dyn_kwargs or len(node.args) > most:
            self._refuse(node.lineno, f"the filter {node.name!r} takes a value and at most {most} plain arguments")
        if len(node.args) < FILTERS[node.name].min_arguments:
            self._refuse(node.lineno, f"the filter {node.name!r} needs {FILTERS[node.name].min_arguments} arguments")
        node.node = self._check_expression(node.node, scope)
        node.args = [self._check_expression(argument, scope) for argument in node.args]
        if node.name != "default" and not all(isinstance(argument, nodes.Const) for argument in node.args):
            self._refuse(node.lineno, f"the arguments of the filter {node.name!r} must be constants")
        return node

    def _variable(self, name: str, node: nodes.Node) -> nodes.Name:
        variable = self.variables.setdefault(name, f"_value_{len(self.variables)}")
        return nodes.Name(variable, "load", lineno=node.lineno)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox without globals, tests, attributes, calls and operators."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})
    intercepted_unops = frozenset({"+"})

    def __init__(self) -> None:
        super().__init__(autoescape=False, finalize=_write_value, keep_trailing_newline=True)
        self.globals.clear()
        self.tests.clear()
        self.filters.clear()
        self.filters.update({name: entry.function for name, entry in FILTERS.items()})
        self.filters[_LOOP_FILTER] = list_elements

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:  # noqa: ARG002
        return False

    def is_safe_callable(self, obj: object) -> bool:  # noqa: ARG002
        return False


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    return _Environment()


@pass_context
def _write_value(context: Context, value: object) -> str:
    """Quote a value as data, within the length that is left to this rendering."""
    if isinstance(value, str):
        text = value
    elif value is None:
        return ""
    elif isinstance(value, list | tuple):
        text = ", ".join(map(str, value))
    else:
        text = str(value)
    remaining: list[int] = context.parent[_REMAINING]
    limit = min(MAX_VALUE, remaining[0])
    if limit < 1:
        return ""
    text = neutralize(text, limit)
    remaining[0] -= len(text)
    return hold_brackets(text)


def _plain_pattern(tree: nodes.Template, variables: Sequence[str]) -> tuple[str, tuple[int, ...]] | None:
    """Return the ``%`` pattern of a text without logic and the values that fill it; None for other texts."""
    pattern, order = [], []
    for statement in tree.body:
        if not isinstance(statement, nodes.Output):
            return None
        for node in statement.nodes:
            if isinstance(node, nodes.TemplateData):
                # Only the template's own literals enter the pattern.
                pattern.append(node.data.replace("%", "%%"))
            elif isinstance(node, nodes.Name):
                pattern.append("%s")
                order.append(variables.index(node.name))
            else:
                return None
    return "".join(pattern), tuple(order)


def _quote_column_names(source: str) -> str:
    """Write ``{{ fields.release date }}`` as ``{{ fields["release date"] }}``, unless it is an expression as it is."""

    def quoted(match: re.Match[str]) -> str:
        expression: str = match[1]
        column = expression.removeprefix(FIELD_PREFIX)
        if not _COLUMN_NAME.fullmatch(column) or _is_expression(expression):
            return match[0]
        return f"{{{{ fields[{json.dumps(column, ensure_ascii=False)}] }}}}"

    return _PLACEHOLDER.sub(quoted, source)


def _is_expression(text: str) -> bool:
    try:
        _Checker("").check(f"<data>{{{{ {text} }}}}")
    except ConfigError:
        return False
    return True


def _column_of(node: nodes.Node) -> str | None:
    """Return the column that ``fields.NAME`` or ``fields["NAME"]`` means; a name may hold dots."""
    if isinstance(node, nodes.Getitem):
        if _is_fields(node.node) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            return node.arg.value
        return None
    if not isinstance(node, nodes.Getattr):
        return None
    if _is_fields(node.node):
        return node.attr
    before = _column_of(node.node) if isinstance(node.node, nodes.Getattr) else None
    return None if before is None else f"{before}.{node.attr}"


def _is_fields(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "fields"


def _statement_name(node: nodes.Node) -> str:
    name = {"Assign": "set", "AssignBlock": "set", "CallBlock": "call", "FilterBlock": "filter"}
    return f"{{% {name.get(type(node).__name__, type(node).__name__.lower())} %}}"


def _expression_name(node: nodes.Node) -> str:
    if isinstance(node, nodes.Call):
        return "a call"
    if isinstance(node, nodes.Test):
        return f"the test 'is {node.name}'"
    if isinstance(node, nodes.BinExpr):
        return f"the operator {node.operator!r}"
    return f"{type(node).__name__.lower()} in an expression"
