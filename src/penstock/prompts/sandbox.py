"""Jinja2, kept from whatever a prompt has no use for. The only module that imports it, and imported when it is needed.

Templates can read what they are given and nothing else: of Python's attributes only a few methods of texts and objects,
of Jinja2's filters those without chance, files or formats that make much of little. What a rendering may do is counted,
so that none can hold up the others: steps (turns of loops, calls, filters) and characters it makes on the way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextvars import ContextVar
from functools import wraps
from types import GeneratorType
from typing import Any

from jinja2 import BaseLoader, StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2 import Environment as _Environment
from jinja2.environment import Template, TemplateModule
from jinja2.exceptions import TemplateNotFound, TemplateRuntimeError
from jinja2.runtime import LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from penstock.prompts.mistakes import Mistake

MOST_STEPS = 100_000
"""Turns of loops, calls and filters in one rendering."""
MOST_CHARS = 1_000_000
"""Characters of a rendered text, and of any text on the way to it."""
MOST_MADE = 10_000_000
"""Characters made in one rendering altogether."""
_PER_STEP = 64
"""Characters that a filter or method looks at for one step; items are a step each."""
_LARGEST = 2**127
_POWER = 64
_DIGITS = 40

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


class _Work:
    """What one rendering has done."""

    __slots__ = ("made", "steps")

    def __init__(self) -> None:
        self.steps = 0
        self.made = 0

    def step(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > MOST_STEPS:
            raise TemplateRuntimeError(f"more than {MOST_STEPS} steps: turns of loops, calls and filters")

    def make(self, chars: int) -> None:
        self.made += chars
        if chars > MOST_CHARS or self.made > MOST_MADE:
            raise TemplateRuntimeError(f"a text of more than {MOST_CHARS} characters, or {MOST_MADE} in all")


_WORK: ContextVar[_Work] = ContextVar("work")


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
        token = _WORK.set(_Work())
        try:
            return self._template.render(values)
        except Exception as error:  # whatever a template does wrong is the template's mistake
            raise _mistake(error) from error
        finally:
            _WORK.reset(token)


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
            undefined=StrictUndefined, loader=loader, auto_reload=False, optimized=False, finalize=_shown,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        own = {"int": _int, "join": _join, "replace": _replace, "round": _round, "string": _string, "tojson": _tojson,
               _JOINED: _join, _TURNS: _turns}  # fmt: skip
        allowed = {name: _counted(self.filters[name], sized=name not in _AT_ONCE) for name in _FILTERS}
        self.filters = {**allowed, **own}
        self.globals = {"range": _range, "namespace": Namespace, "dict": dict}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Counting().visit(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """Put texts together, if that is not too much."""
        found = list(parts)
        _WORK.get().make(sum(map(len, found)))
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
        work = _WORK.get()
        work.step()
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if operator == "**" and (not numbers or abs(left) > _POWER**2 or abs(right) > _POWER):
            raise TemplateRuntimeError(f"powers are for numbers up to {_POWER**2}, and exponents up to {_POWER}")
        if operator == "%" and not numbers:
            raise TemplateRuntimeError("`%` is for numbers")
        if operator == "*" and not numbers:
            raise TemplateRuntimeError("`*` is for numbers")
        if operator == "+" and isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
            work.make(len(left) + len(right))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and abs(result) > _LARGEST:
            raise TemplateRuntimeError("a number that is too large")
        return result

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 Jinja2's signature
        """Call, and count it."""
        _WORK.get().step(1 + _size(getattr(obj, "__self__", None)))
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
        _WORK.get().step(1 + _size(args[at]) if sized else 1)
        return function(*args, **kwargs)

    return counted


def _size(value: object) -> int:
    """Return the steps it takes to look at all of a value."""
    if isinstance(value, str):
        return len(value) // _PER_STEP
    return len(value) if isinstance(value, (list, tuple, dict)) else 0


def _turns(items: Iterable[Any]) -> Iterator[Any]:
    """Yield what a loop goes over, counting."""
    step = _WORK.get().step
    for item in items:
        step()
        yield item


def _range(*limits: int) -> range:
    made = range(*limits)
    if made and (len(made) if abs(made[-1]) < _LARGEST else MOST_STEPS + 1) > MOST_STEPS:
        raise TemplateRuntimeError(f"a range of more than {MOST_STEPS}")
    _WORK.get().step(len(made) // _PER_STEP)
    return made


def _shown(value: object) -> object:
    """Write a value as people and models read it: nothing for none, JSON for truth, lists and objects."""
    if isinstance(value, Undefined):
        return value  # raises when it becomes a text
    text = value if isinstance(value, str) else _written(value)
    _WORK.get().make(len(text))
    return text


def _written(value: object, indent: int | None = None) -> str:
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    if isinstance(value, (GeneratorType, range, KeysView, ValuesView, ItemsView)):
        value = list(_turns(value))
    if not isinstance(value, (list, tuple, dict)):
        raise TemplateRuntimeError(f"a {type(value).__name__} is no text")
    # Before it is written: a few lines of a template can make a list that has no end when it is written out.
    items, chars = _extent(value, 0)
    work = _WORK.get()
    work.step(items // _PER_STEP)
    work.make(chars)
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _extent(value: object, items: int) -> tuple[int, int]:
    """Return how many values are in `value`, `items` added, and about how many characters they have."""
    if items > MOST_STEPS:
        raise TemplateRuntimeError(f"a list or object of more than {MOST_STEPS} values")
    if isinstance(value, Undefined):
        str(value)  # raises
    if isinstance(value, (str, int, float)) or value is None:
        return items + 1, len(value) if isinstance(value, str) else 8
    if not isinstance(value, (list, tuple, dict)):
        raise TemplateRuntimeError(f"a {type(value).__name__} cannot be written as JSON")
    chars = sum(len(key) if isinstance(key, str) else 8 for key in value) if isinstance(value, dict) else 0
    for inner in value.values() if isinstance(value, dict) else value:
        items, more = _extent(inner, items)
        chars += more
    return items + 1, chars


def _tojson(value: object, indent: int | None = None) -> str:
    if indent is not None and not 0 <= indent <= 8:
        raise TemplateRuntimeError("tojson takes an indent from 0 to 8")
    return "null" if value is None else json.dumps(value, ensure_ascii=False) if isinstance(value, str) else _written(
        value, indent
    )  # fmt: skip


def _join(items: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    found = []
    work = _WORK.get()
    for item in _turns(items):
        value = item if attribute is None else item[attribute]
        text = str(_shown(value))
        work.make(len(text) + len(separator))
        found.append(text)
    return separator.join(found)


def _string(value: object) -> str:
    return str(_shown(value))


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    text, new = str(text), str(new)
    times = text.count(old) if count < 0 else min(text.count(old), count)
    work = _WORK.get()
    work.step(1 + len(text) // _PER_STEP)
    work.make(len(text) + times * max(0, len(new) - len(old)))
    return text.replace(old, new, times)


def _int(value: object, default: int = 0) -> int:
    if not isinstance(value, (int, float, str)) or (isinstance(value, str) and len(value) > _DIGITS):
        return default
    try:
        return int(value)
    except (ValueError, OverflowError):
        return default


def _round(value: float, precision: int = 0) -> float:
    if not -_POWER <= precision <= _POWER:
        raise TemplateRuntimeError(f"round takes a precision up to {_POWER}")
    return round(value, precision)


def _mistake(error: BaseException) -> Mistake:
    """Say what went wrong, and in which line: Jinja2 puts frames of the template into the traceback."""
    line, file, trace = None, None, error.__traceback__
    while trace is not None:
        if "__jinja_exception__" in trace.tb_frame.f_globals:
            line, file = trace.tb_lineno, trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
    if isinstance(error, Mistake):
        return error
    if isinstance(error, RecursionError):
        return Mistake("macros that call each other too deeply", line, file)
    said = str(error) if isinstance(error, (TemplateError, TypeError, ValueError, ArithmeticError)) else ""
    return Mistake(said or type(error).__name__, line, file)
