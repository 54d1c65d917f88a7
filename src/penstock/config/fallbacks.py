"""Whether the models that stand in for others exist, and lead somewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from penstock.config.problems import Problems, suggestion
from penstock.config.provenance import Node, Path

CAUSES = ("context_window", "content_policy", "errors")
MOST_MODELS = 10
"""Models one may fall back to, directly and through others."""


class _Step(NamedTuple):
    """One entry of a list of models to fall back to."""

    name: str
    node: Node
    path: Path


Steps = Mapping[str, Mapping[str, list[_Step]]]
"""By cause, then by the model that falls back."""


def check_fallbacks(tree: Node, providers: Collection[str], problems: Problems) -> None:
    """Refuse names of no model, circles, and more models than a request should try."""
    steps = _steps(tree)
    names = [name for _, model in tree.entries("models") if (name := model.text("name")) is not None]
    known = [name for name in names if "*" not in name]
    for by_model in steps.values():
        for step in (step for own in by_model.values() for step in own):
            if step.name not in known and not addressed(step.name, providers):
                message = f"there is no model named {step.name!r}{suggestion(step.name, known)}"
                problems.add(message, step.node.origin, step.path, "the name of a configured model, or provider/model")
        _refuse_circles(by_model, problems)
    for index, model in tree.entries("models"):
        reached = reachable(model.text("name") or "", steps.values())
        if len(reached) > MOST_MODELS:
            message = f"{len(reached)} models to fall back to, through others too"
            where = ("models", index, "fallbacks")
            problems.add(message, model.value["fallbacks"].origin, where, f"at most {MOST_MODELS}")


def reachable(name: str, graphs: Collection[Mapping[str, list[_Step]]]) -> set[str]:
    """The models `name` may lead to, by any cause and through others; without itself."""
    found: set[str] = set()
    pending = [name]
    while pending:
        model = pending.pop()
        for graph in graphs:
            for step in graph.get(model, ()):
                if step.name not in found:
                    found.add(step.name)
                    pending.append(step.name)
    return found - {name}


def _steps(tree: Node) -> dict[str, dict[str, list[_Step]]]:
    steps: dict[str, dict[str, list[_Step]]] = {cause: {} for cause in CAUSES}
    for index, model in tree.entries("models"):
        fallbacks = model.value.get("fallbacks")
        if fallbacks is None or not isinstance(fallbacks.value, dict):
            continue
        for cause in CAUSES:
            named = fallbacks.value.get(cause)
            items = named.value if named is not None and isinstance(named.value, list) else []
            path = ("models", index, "fallbacks", cause)
            steps[cause].setdefault(model.text("name") or "", []).extend(
                _Step(item.value, item, (*path, place))
                for place, item in enumerate(items)
                if isinstance(item.value, str)
            )
    return steps


def addressed(name: str, providers: Collection[str]) -> bool:
    """Whether `name` is provider/model."""
    provider, slash, model = name.partition("/")
    return bool(slash and model) and provider in providers


def _refuse_circles(by_model: Mapping[str, list[_Step]], problems: Problems) -> None:
    """Note each step that leads back to where one came from, on a walk through all models as listed."""
    done: set[str] = set()
    for start in by_model:
        trail = [start]
        walks = [_walk(start, by_model, done)]
        while walks:
            step = next(walks[-1], None)
            if step is None:
                walks.pop()
                done.add(trail.pop())
            elif step.name in trail:
                circle = " › ".join([*trail[trail.index(step.name) :], step.name])
                problems.add(f"a circle: {circle}", step.node.origin, step.path, "a model that does not lead back here")
            else:
                trail.append(step.name)
                walks.append(_walk(step.name, by_model, done))


def _walk(name: str, by_model: Mapping[str, list[_Step]], done: Collection[str]) -> Iterator[_Step]:
    return (step for step in by_model.get(name, ()) if name not in done and step.name not in done)
