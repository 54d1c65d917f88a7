"""Jinja2, kept from whatever a prompt has no use for. The only module that imports it, and imported when it is needed.

Templates can read what they are given and nothing else: of Python's attributes only a few methods of texts and objects,
of Jinja2's filters those without chance, files or formats that make much of little. What a rendering may do is counted,
so that none can hold up the others: steps (turns of loops, calls, filters) and characters it makes on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

from jinja2 import BaseLoader, StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2 import Environment as _Environment
from jinja2.environment import Template, TemplateModule
from jinja2.exceptions import TemplateNotFound
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from penstock.prompts.filters import bounded_range, bounded_round, join, replace, shown, to_int, to_json, turns
from penstock.prompts.mistakes import Mistake
from penstock.prompts.work import WORK, Work, size_of

_LARGEST = 2**127
_POWER = 64

_METHODS: dict[type, frozenset[str]] = {
    str: frozenset(
        {"capitalize", "endswith", "lower", "lstrip", "rstrip", "split", "splitlines", "startswith", "strip", "title",
         "upper"}
    ),
    dict: frozenset({"get", "items", "keys", "values"}),
}  # fmt: skip
_AT_ONCE = frozenset({"count", "d", "default", "first", "last", "length"})
_FILTERS = _AT_ONCE | frozenset(
    {"abs", "capitalize", "dictsort", "float", "groupby", "items", "list", "lower", "map", "max", "min", "reject",
     "rejectattr", "reverse", "select", "selectattr", "sort", "sum", "title", "trim", "truncate", "unique", "upper",
     "wordcount"}
)  # fmt: skip
"""Filters that are there; those of the first line take the same time whatever they look at."""
_TURNS, _JOINED = "_turns", "_joined"


class Compiled:
    """A template that can be rendered.

    Attributes:
        names: The variables it uses, each with the line of its first use.
    """

    def __init__(self, template: Template, names: Mapping[str, int]) -> None:
        self._template = template
        self.names = names

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the text; `values` are JSON's.

        Raises:
            Mistake: It cannot be rendered with these values, or would be too much.
        """
        token = WORK.set(Work())
        try:
            return self._template.render(values)
        except Exception as error:  # whatever a template does wrong is the template's mistake
            raise _mistake(error) from error
        finally:
            WORK.reset(token)


class Sandbox:
    """Compiles templates that may include `partials`, texts by name."""

    def __init__(self, partials: Mapping[str, str]) -> None:
        self._partials = partials
        self._environment = _Sandboxed(_Partials(partials))

    def compile(self, source: str, file: str = "") -> Compiled:
        """Compile a template; `file` is what to call it in mistakes.

        Raises:
            Mistake: It is no template, or includes what there is not.
        """
        environment = self._environment
        try:
            tree = environment.parse(source)
            names = self._names(tree, ())
            code = environment.compile(tree, filename=file or "<prompt>")
        except TemplateSyntaxError as error:
            # Jinja2 looks at filters under a name of its own.
            included = error.filename if error.filename in self._partials else None
            raise Mistake(error.message or "not a template", error.lineno, included) from error
        except (RecursionError, SyntaxError) as error:  # Python has limits for the code that is made of a template
            raise Mistake("nested too deeply") from error
        return Compiled(Template.from_code(environment, code, environment.make_globals(None)), names)

    def _names(self, tree: nodes.Template, inside: tuple[str, ...]) -> dict[str, int]:
        free = meta.find_undeclared_variables(tree) - set(self._environment.globals)
        names: dict[str, int] = {}
        for node in tree.find_all(nodes.Name):
            if node.name in free:
                names.setdefault(node.name, node.lineno)
        for statement in tree.find_all(nodes.Stmt):
            if not isinstance(statement, (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
                continue
            line, named = statement.lineno, statement.template
            name = named.value if isinstance(named, nodes.Const) else None
            if not isinstance(name, str):
                raise Mistake("the name of an included file must be written out", line)
            if name in inside:
                raise Mistake(f"{name!r} includes itself", line)
            if name not in self._partials:
                raise Mistake(f"there is no file {name!r} to include", line)
            included = self._environment.parse(self._partials[name], filename=name)
            for each in self._names(included, (*inside, name)):
                names.setdefault(each, line)
        return names


class _Partials(BaseLoader):
    def __init__(self, partials: Mapping[str, str]) -> None:
        self._partials = partials

    def get_source(self, environment: _Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        del environment
        if template not in self._partials:
            raise TemplateNotFound(template)
        return self._partials[template], template, lambda: True


class _Sandboxed(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, loader: BaseLoader) -> None:
        super().__init__(
            undefined=StrictUndefined, loader=loader, auto_reload=False, optimized=False, finalize=shown,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        own = {"int": to_int, "join": join, "replace": replace, "round": bounded_round, "string": shown,
               "tojson": to_json, _JOINED: join, _TURNS: turns}  # fmt: skip
        allowed = {name: _counted(self.filters[name], sized=name not in _AT_ONCE) for name in _FILTERS}
        self.filters = {**allowed, **own}
        self.globals = {"range": bounded_range, "namespace": Namespace, "dict": dict}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Counting().visit(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """Put texts together, if that is not too much."""
        found = list(parts)
        WORK.get().make(sum(map(len, found)))
        return "".join(found)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ANN401 Jinja2's signature
        """Say no to everything but a few methods, and what loops and macros have."""
        del value
        if isinstance(obj, (LoopContext, Namespace, TemplateModule)):
            return not attr.startswith("_")
        return attr in _METHODS.get(type(obj), ())

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401 Jinja2's signature
        """Prefer an object's own keys to methods that templates cannot use."""
        if isinstance(obj, dict) and attribute in obj and attribute not in _METHODS[dict]:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def wrap_str_format(self, value: object) -> None:
        """Leave `str.format`, which makes much of little, to `is_safe_attribute`."""
        del value

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401 Jinja2's signature
        """Calculate, unless much could come of little."""
        work = WORK.get()
        work.step()
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if operator == "**" and (not numbers or abs(left) > _POWER**2 or abs(right) > _POWER):
            raise Mistake(f"powers are for numbers up to {_POWER**2}, and exponents up to {_POWER}")
        if operator == "%" and not numbers:
            raise Mistake("`%` is for numbers")
        if operator == "*" and not numbers:
            raise Mistake("`*` is for numbers")
        if operator == "+" and isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
            work.make(len(left) + len(right))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and abs(result) > _LARGEST:
            raise Mistake("a number that is too large")
        return result

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 Jinja2's signature
        """Call, and count it."""
        WORK.get().step(1 + size_of(getattr(obj, "__self__", None)))
        return super().call(context, obj, *args, **kwargs)


class _Counting(NodeTransformer):
    """Has turns of loops counted, and texts that `~` makes."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 Jinja2's name
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, _TURNS, [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 Jinja2's name
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, _JOINED, [], [], None, None, lineno=node.lineno)


def _counted(function: Callable[..., Any], *, sized: bool) -> Callable[..., Any]:
    at = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 whatever the filter takes
        WORK.get().step(1 + size_of(args[at]) if sized else 1)
        return function(*args, **kwargs)

    return counted


def _mistake(error: BaseException) -> Mistake:
    """Say what went wrong, and in which line: Jinja2 puts frames of the template into the traceback."""
    line, file, trace = None, None, error.__traceback__
    while trace is not None:
        if "__jinja_exception__" in trace.tb_frame.f_globals:
            line, file = trace.tb_lineno, trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
    if isinstance(error, Mistake):
        return Mistake(error.message, error.line or line, error.file or file)
    if isinstance(error, RecursionError):
        return Mistake("macros that call each other too deeply", line, file)
    said = str(error) if isinstance(error, (TemplateError, TypeError, ValueError, ArithmeticError)) else ""
    return Mistake(said or type(error).__name__, line, file)
