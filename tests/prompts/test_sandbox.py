"""What templates may do: nothing but write text, and not too much of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.prompts.mistakes import Mistake
from penstock.prompts.sandbox import Sandbox
from penstock.prompts.work import MOST_CHARS, MOST_STEPS

PARTIALS = {
    "macros.j2": "{% macro quoted(text) %}«{{ text }}»{% endmacro %}",
    "sign.j2": "Yours, {{ name }}",
    "loop.j2": "{% include 'loop.j2' %}",
}


def render(source, **values):
    return Sandbox(PARTIALS).compile(source, "p.yaml").render(values)


ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ x.__init__.__globals__ }}",
    "{{ ().__class__.__mro__[1].__subclasses__() }}",
    "{{ x|map(attribute='__class__')|list }}",
    "{{ [x]|groupby('__class__') }}",
    "{{ [x]|sum(attribute='__class__') }}",
    "{{ [x]|join('', '__class__') }}",
    "{{ [x, x]|sort(attribute='__class__') }}",
    "{{ [x]|selectattr('__class__')|list }}",
    "{{ x|attr('__class__') }}",
    "{{ '{0.__class__}'.format(x) }}",
    "{{ '{a.__class__}'.format_map({'a': x}) }}",
    "{{ range.__globals__ }}",
    "{{ namespace.__init__ }}",
    "{{ dict.__subclasses__() }}",
    "{{ self._TemplateReference__context }}",
    "{{ self.__init__.__globals__ }}",
    "{% for i in [1] %}{{ loop.__class__ }}{% endfor %}",
    "{% for i in [1] %}{{ loop._iterable }}{% endfor %}",
    "{% macro m() %}{% endmacro %}{{ m.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m._func }}",
    "{% import 'macros.j2' as m %}{{ m.__class__ }}",
    "{% set ns = namespace() %}{{ ns.__class__ }}",
    "{{ lipsum.__globals__ }}",
    "{{ cycler.__init__ }}",
    "{{ [1].append(2) }}",
    "{{ o.update(a=2) }}",
    "{{ o.__class__ }}",
    "{{ o.pop('a') }}",
    "{% include '/etc/passwd' %}",
    "{% include '../secret.j2' %}",
    "{% include x %}",
    "{% extends x %}",
    "{% import x as y %}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_there_is_no_way_out(source):
    with pytest.raises(Mistake):
        render(source, x="value", o={"a": 1})


BOMBS = [
    "{{ 'a' * 1000000000 }}",
    "{{ [1] * 1000000000 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ 'a'|center(1000000000) }}",
    "{{ 'a'.ljust(1000000000) }}",
    "{{ range(1000000000)|list }}",
    "{{ range(-(10 ** 60), 10 ** 30)|list }}",
    "{{ 1|round(1000000000) }}",
    "{{ o|tojson(1000000000) }}",
    "{{ ['a']|batch(1000000000, 'x') }}",
    "{{ 'a'|indent(1000000000) }}",
    "{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{{ range(99999)|list|length }}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=['ab']) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=1) %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}",
    "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = ns.x|replace('a', 'aa') %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|string }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson }}",
    "{% set ns = namespace(x=2) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for i in range(3000) %}{{ x }}{% endfor %}",
    "{{ many|sort|first }}",
    "{{ many|unique|list|length }}",
    "{{ long|upper|length }}",
    "{{ long.split('x')|length }}",
]


@pytest.mark.parametrize("source", BOMBS)
def test_little_cannot_become_much(source):
    with pytest.raises(Mistake):
        render(source, x="x" * 1000, o={"a": 1}, many=[0] * (MOST_STEPS + 1), long="x" * (MOST_STEPS * 65))


@pytest.mark.parametrize("source", ["{% include 'loop.j2' %}", "{% if %}", "{{ x|nothing }}", "{% endfor %}"])
def test_what_is_no_template_is_not_compiled(source):
    with pytest.raises(Mistake) as caught:
        Sandbox(PARTIALS).compile(source)
    assert caught.value.line == 1


def test_the_bounds_leave_room_for_long_prompts():
    text = "word " * (MOST_CHARS // 10)
    assert render("{{ x }}", x=text) == text
    rows = [{"n": number} for number in range(MOST_STEPS // 4)]
    assert render("{% for row in rows %}{{ row.n }},{% endfor %}", rows=rows).endswith(f"{len(rows) - 1},")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ none }}|{{ true }}|{{ 1.5 }}|{{ 'a' }}", "|true|1.5|a"),
        ("{{ [1, 'é', none, true] }}", '[1, "é", null, true]'),
        ("{{ o }}", '{"a": 1, "items": 2}'),
        (
            "{{ o.a }}{{ o['items'] }}{% for key, value in o.items() %}{{ key }}={{ value }};{% endfor %}",
            "12a=1;items=2;",
        ),
        ("{{ o|tojson(2) }}", '{\n  "a": 1,\n  "items": 2\n}'),
        ("{{ 'x'|tojson }}{{ none|tojson }}", '"x"null'),
        ("{{ 'b,a'.split(',')|sort|join('; ') }}", "a; b"),
        ("{% for i in [3, 4] %}{{ loop.index }}{{ '' if loop.last else ',' }}{% endfor %}", "1,2"),
        ("{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "3"),
        ("{% import 'macros.j2' as m %}{{ m.quoted('a') }}", "«a»"),
        ("{% include 'sign.j2' %}", "Yours, Ada"),
        ("{{ name|upper }} {{ name|replace('A', 'E') }} {{ '12'|int + 1 }} {{ 2.345|round(1) }}", "ADA Eda 13 2.3"),
        ("{% if name %}\n  yes\n{% endif %}\nend\n", "  yes\nend"),
        ("{{ name ~ ' & ' ~ 1 }} <b>", "Ada & 1 <b>"),
        ("{{ o.missing|default('none') }}", "none"),
    ],
)
def test_values_are_written_as_models_read_them(source, text):
    assert render(source, name="Ada", o={"a": 1, "items": 2}) == text


@pytest.mark.parametrize(
    ("source", "line", "file"),
    [
        ("one\n{{ o.b }}\n", 2, "p.yaml"),
        ("{% for i in [1] %}\n\n{{ 1 / 0 }}{% endfor %}", 3, "p.yaml"),
        ("{% import 'macros.j2' as m %}\n{{ m.quoted(o.b) }}", 1, "macros.j2"),
    ],
)
def test_a_mistake_names_its_line(source, line, file):
    with pytest.raises(Mistake) as caught:
        render(source, o={})
    assert (caught.value.line, caught.value.file) == (line, file)


def test_free_variables_are_known_with_their_lines_also_those_of_included_files():
    compiled = Sandbox(PARTIALS).compile("{% for a in b %}{{ a }}\n{{ c }}{% endfor %}{% set d = 1 %}{{ d }}\n\n"
                                         "{% include 'sign.j2' %}")  # fmt: skip
    assert compiled.names == {"b": 1, "c": 2, "name": 4}


def test_values_are_not_templates():
    assert render("{{ x }}", x="{{ 7 * 7 }}{% include 'sign.j2' %}") == "{{ 7 * 7 }}{% include 'sign.j2' %}"


@pytest.mark.parametrize("depth", [30, 3000])
def test_what_is_nested_too_deeply_is_said_to_be(depth):
    loops = "{% for i in x %}" * depth + "{% endfor %}" * depth
    with pytest.raises(Mistake, match="nested too deeply"):
        Sandbox({}).compile(loops)


FRAGMENTS = [
    "{{ ", " }}", "{% for i in x %}", "{% endfor %}", "{% if o %}", "{% endif %}", "{% set y = x %}",
    "{% macro m(a) %}", "{% endmacro %}", "m(1)", "x", "o", "o.a", "o['a']", "|", "join", "(", ")", "[", "]", ",",
    " ~ ", " + ", " * ", "'a'", "1", "-1", "1.5", "none", "range", "namespace", "tojson", "sort", "loop.index",
    "{# ", " #}", "{% include 'sign.j2' %}", "y", "\n", "{% raw %}", "{% endraw %}", "{% call m() %}",
    "{% endcall %}", "__class__", ".", "=", "{% filter upper %}", "{% endfilter %}",
]  # fmt: skip


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=25))
def test_whatever_a_file_says_it_is_a_text_or_a_mistake(fragments):
    try:
        text = render("".join(fragments), x=[1, "b", None], o={"a": {"b": 2}}, name="Ada")
    except Mistake:
        return
    assert type(text) is str
    assert "class '" not in text
