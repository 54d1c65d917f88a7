"""How two texts differ, and the differences that change an answer however alike they look.

Vectors of meaning hardly move when a "not", a number or a name does, so these are decided by rule before the model is
asked. A veto costs a miss; its absence costs a wrong answer. What changes an answer only mostly is counted, and left
to the model.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

from penstock.matching.alignment import MANY, in_order, pair_off, surplus
from penstock.matching.reading import Reading, meaning, tokens
from penstock.matching.vocabulary import COMMUTING, NEGATIVE_PREFIXES, OPPOSITES, TURNING

SHORT, IN_PLACE = 10, 0.8
"""Up to so many words of the shorter text, or from this share of them in the same order on, what a sentence denies,
asks and names is surely read; longer texts in other words may say the same with one "not" more."""

EDITED = 3
"""How many words of content an edit changes at most; who rephrases changes more."""

EDITED_IN_PLACE = 0.6
"""From this share of the shorter text's words in the same order on, two texts are one text, edited."""

VETOES = (
    "literal",
    "number",
    "unit",
    "date",
    "antonym",
    "order",
    "negation",
    "question",
    "quantifier",
    "name",
    "swap",
    "insertion",
)
"""The names `veto` returns."""


class Difference(NamedTuple):
    """How a question differs from a known one.

    Attributes:
        veto: The first difference that forbids the answer, or None.
        here: Words with content that only the question has, as stems.
        there: Those that only the known one has.
        alike: Words that differ in spelling only, it seems.
        function: Other words that only one has: pronouns, prepositions, modal verbs.
        doubts: Differences that would forbid the answer, had not both texts many other words in another order.
        in_order: Share of the words with content which both have that stand in the same order.
    """

    veto: str | None
    here: tuple[str, ...]
    there: tuple[str, ...]
    alike: int
    function: tuple[str, ...]
    doubts: int
    in_order: float


def compare(asked: Reading, known: Reading) -> Difference:
    """Return how `asked` differs from `known`. It is the same the other way round, but for `here` and `there`."""
    here, there = surplus(asked.content, known.content)
    both = len(asked.content) - len(here)
    cancelled = _cancel(asked, known, here, there)
    alike = pair_off(here, there)
    fewer = min(len(asked.stems), len(known.stems))
    veto, doubts = None, 0
    if _facts(asked) != _facts(known):
        for name, differs in _FACTS:
            if differs(asked, known):
                veto = veto or name
    if veto is None and not cancelled:
        if _opposed(asked.words - known.words, known.words - asked.words):
            veto = "antonym"
        elif _turned(asked, known) if not here and not there else _moved(asked, known, here, there):
            veto = "order"
    same = _asks(asked) == _asks(known)
    for name, differs in _READINGS[-1:] if same else _READINGS:
        if not (cancelled and name == "negation") and differs(asked, known):
            doubts += 1
            if veto is None and (fewer <= SHORT or in_order(asked.stems, known.stems) >= IN_PLACE * fewer):
                veto = name
    doubts += not same and _also(asked, known)
    function, other = surplus(asked.function, known.function)
    return Difference(
        veto,
        tuple(here),
        tuple(there),
        alike,
        (*function, *other),
        doubts,
        in_order(asked.content, known.content) / both if both and asked.content != known.content else 1.0,
    )


def veto(asked: Reading, known: Reading, *, edits: bool = True) -> str | None:
    """Return the name of the first difference that forbids the answer to `known` for `asked`, or None.

    Args:
        asked: The question that came.
        known: The one whose answer is known.
        edits: Whether a few words changed in place forbid it too ("swap", "insertion"). Without a dictionary of
            synonyms this refuses many true paraphrases.
    """
    found = compare(asked, known)
    return found.veto or (_edited(asked, known, found) if edits else None)


def _edited(asked: Reading, known: Reading, found: Difference) -> str | None:
    """Name the edit where two texts are one but for a single place; a true paraphrase tends to change several."""
    most, fewer = max(len(found.here), len(found.there)), min(len(asked.stems), len(known.stems))
    if not most:
        return None
    in_place = in_order(asked.stems, known.stems) >= EDITED_IN_PLACE * fewer
    if most <= EDITED and (in_place or (most == 1 and set(asked.content) & set(known.content))):
        return "swap" if found.here and found.there else "insertion"
    return None


def _literal(asked: Reading, known: Reading) -> bool:
    """A quotation without its quotation marks is still there; a lone sign may be an ornament."""
    for literal in asked.literals ^ known.literals:
        other = known if literal in asked.literals else asked
        words = {token.lower() for token in tokens(literal) if token[0].isalnum()}
        if not words <= other.words or (not words and (other.literals or asked.stems == known.stems)):
            return True
    return False


def _number(asked: Reading, known: Reading) -> bool:
    if asked.numbers == known.numbers:
        return False
    if len(asked.numbers) > 2 and sorted(asked.numbers) == sorted(known.numbers):
        return False
    return bool(_figures(asked) or _figures(known) or (asked.numbers and known.numbers))


def _count(asked: Reading, known: Reading) -> bool:
    return asked.numbers != known.numbers


def _figures(reading: Reading) -> bool:
    """Whether a number is in figures; one in letters may count what is said anyway: "these two", "both"."""
    return any(word[0].isdigit() for word in reading.words)


def _unit(asked: Reading, known: Reading) -> bool:
    return asked.units != known.units


def _date(asked: Reading, known: Reading) -> bool:
    return asked.dates != known.dates


def _negation(asked: Reading, known: Reading) -> bool:
    if asked.negated == known.negated:
        return False
    if len(asked.negated) != len(known.negated):
        return True
    moved = set(map(meaning, asked.negated)) ^ set(map(meaning, known.negated))
    return any(scope in asked.content and scope in known.content for scope in moved)


def _question(asked: Reading, known: Reading) -> bool:
    here, there = asked.asked - known.asked, known.asked - asked.asked
    if here and there:
        return True
    opening, other = (asked.opening, known.opening) if here else (known.opening, asked.opening)
    return opening in {word.split()[0] for word in here | there} and other not in _OPEN


def _also(asked: Reading, known: Reading) -> bool:
    """Whether one asks for one thing more, "and why?"; "what is the place" may be "where is"."""
    return asked.asked != known.asked or asked.quantifiers != known.quantifiers


def _quantifier(asked: Reading, known: Reading) -> bool:
    here, there = asked.quantifiers - known.quantifiers, known.quantifiers - asked.quantifiers
    return bool(here and there) or bool((here | there) & _LIMITS)


def _name(asked: Reading, known: Reading) -> bool:
    return not (asked.names <= frozenset(known.stems) and known.names <= frozenset(asked.stems))


_OPEN = frozenset({"what", "which"})
_LIMITS = frozenset({"only", "always"})
_facts = attrgetter("literals", "numbers", "units", "dates")
_asks = attrgetter("numbers", "negated", "asked", "quantifiers")
"""What the rules below look at, all but the last: where it is the same, none of them says anything."""

_Rule = Callable[[Reading, Reading], bool]
_FACTS: tuple[tuple[str, _Rule], ...] = (("literal", _literal), ("number", _number), ("unit", _unit), ("date", _date))
_READINGS: tuple[tuple[str, _Rule], ...] = (
    ("number", _count),
    ("negation", _negation),
    ("question", _question),
    ("quantifier", _quantifier),
    ("name", _name),
)


def _opposites(one: str, other: str) -> bool:
    return other in OPPOSITES.get(one, _NONE) or _turned_by_affix(one, other)


def _turned_by_affix(one: str, other: str) -> bool:
    if len(one) > len(other):
        one, other = other, one
    if len(one) > 3 and other.endswith(one):
        return other[: -len(one)] in NEGATIVE_PREFIXES
    if not other.endswith("less"):
        return False
    root = one.removesuffix("ful").removesuffix("ing")
    return len(root) > 3 and other.startswith(root) and other[len(root) :] in ("less", "eless")


_NONE: frozenset[str] = frozenset()


def _opposed(here: frozenset[str], there: frozenset[str]) -> bool:
    if any(not OPPOSITES[one].isdisjoint(there) for one in here & OPPOSITES.keys()):
        return True
    if len(here) > MANY or len(there) > MANY:
        return False
    ends, others = {word[-4:] for word in here}, {word[-4:] for word in there}
    if ends.isdisjoint(others) and "less" not in ends and "less" not in others:
        return False
    return any(_turned_by_affix(one, other) for one in here for other in there)


def _cancel(asked: Reading, known: Reading, here: list[str], there: list[str]) -> bool:
    """Take out each "not" that one text has more with its opposite there: "not possible", "impossible". Whether all."""
    if len(asked.negated) == len(known.negated):
        return False
    if len(asked.negated) < len(known.negated):
        return _cancel(known, asked, there, here)
    more, less = surplus(asked.negated, known.negated)
    if less:
        return False
    left, right = list(here), list(there)
    for scope in more:
        other = next((word for word in known.words - asked.words if _opposites(scope, word)), None)
        if other is None or meaning(scope) not in left or meaning(other) not in right:
            return False
        left.remove(meaning(scope))
        right.remove(meaning(other))
    here[:], there[:] = left, right
    return True


def _turned(asked: Reading, known: Reading) -> bool:
    """Whether words have changed places around a relation: "dog bites man". Around "and" they may."""
    here, there = _relations(asked), _relations(known)
    if here != there and TURNING & {*here, *there}:
        return True
    one, other = asked.content, known.content
    if one == other or len(one) != len(other) or len(one) > MANY:
        return False
    start = next(place for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    end = next(place for place in range(len(one), 0, -1) if one[place - 1] != other[place - 1])
    one, other = one[start:end], other[start:end]
    for first in range(1, len(one)):
        if one[:first] != other[-first:]:
            continue
        for last in range(1, len(one) - first + 1):
            if one[-last:] + one[first : len(one) - last] + one[:first] == other:
                between = _between(asked, one[first - 1], one[-last])
                same = between == _between(known, one[-1], one[0])
                return first + last < len(one) or (same and not between <= COMMUTING)
    return False


def _relations(reading: Reading) -> list[str]:
    return [word for word in reading.function if word in TURNING or word == "to"]


def _moved(asked: Reading, known: Reading, here: list[str], there: list[str]) -> bool:
    """Whether all that differs is which of the words of both texts is said twice."""
    return bool(here and there) and set(here) <= set(known.content) and set(there) <= set(asked.content)


def _between(reading: Reading, first: str, second: str) -> set[str]:
    stems = reading.stems
    if first not in stems or second not in stems:
        return set()
    return set(stems[stems.index(first) + 1 : stems.index(second)])
