"""Why a request is answered by meaning, or is not."""

from __future__ import annotations

from penstock.caching.answer_cache import AnswerCache
from penstock.caching.asking import asked
from penstock.caching.freshness import decide
from penstock.caching.key import cache_key
from penstock.config.semantic import SemanticCacheSettings
from penstock.core.request import Request
from penstock.core.route import SemanticMode
from penstock.matching.partition import Proposal
from penstock.matching.policy import Policy
from penstock.semantic.memory import Memory
from penstock.semantic.reports import Explanation, Neighbour


def mode_of(request: Request, settings: SemanticCacheSettings) -> SemanticMode:
    """Return what is done by meaning with a routed request."""
    return request.semantic or (request.route.semantic if request.route is not None else None) or settings.mode


async def explain(
    request: Request, settings: SemanticCacheSettings, answers: AnswerCache, memory: Memory | None, now: float
) -> Explanation:
    """Say what would be done with a routed request; nothing is given, counted or learnt.

    Args:
        request: The request; a question's vector may cost something, on its tenant's account.
        settings: The settings of matching by meaning.
        answers: The answers.
        memory: The questions; None while matching by meaning is off for all.
        now: Seconds since the epoch.

    Raises:
        PenstockError: The question cannot be embedded now.
    """
    key, route = cache_key(request), request.route
    mode = mode_of(request, settings)
    uncached = request.cache.no_store or (route is not None and route.cache_ttl_s == 0)
    said = Explanation(
        tenant=request.tenant,
        model=request.model,
        key=key.hex(),
        exact="bypass" if uncached else decide(answers.find(key), now, request.cache).value,
        mode=mode,
        serves=False,
        reason="",
    )
    if uncached:
        said.reason = "nothing of this request or model is cached"
        return said
    if memory is None or mode == "off":
        said.reason = "matching by meaning is off: set cache.semantic.mode, or semantic of the model, to shadow or on"
        return said
    place = asked(request, settings.max_question_chars, first_turn_only=settings.first_turn_only)
    if place is None:
        said.reason = (
            f"there is no question to match: the last turn has to be the user's, and text of at most "
            f"{settings.max_question_chars} characters" + (", and the first" if settings.first_turn_only else "")
        )
        return said
    said.question, said.partition = place.text, place.partition.hex()
    policy = memory.policies.of(request.tenant, request.model)
    said.certificate = policy.certificate()._asdict()
    found = await memory.nearest(request, place)
    told = [(_neighbour(memory, policy, each, answers, now), each) for each in found]
    said.nearest = [neighbour for neighbour, _ in told if neighbour is not None]
    first = next((each for neighbour, each in told if neighbour is not None and neighbour.fresh), None)
    said.serves, said.reason = _reason(policy, first, mode)
    return said


def _neighbour(
    memory: Memory, policy: Policy, proposal: Proposal, answers: AnswerCache, now: float
) -> Neighbour | None:
    question = memory.questions.get(proposal.entry)
    if question is None:
        return None
    return Neighbour(
        text=question.text,
        key=question.key.hex(),
        fresh=answers.lookup(question.key, now) is not None,
        features=dict(zip(proposal.features._fields, proposal.features, strict=True)),
        veto=proposal.veto,
        probability=policy.decide(proposal).probability,
    )


def _reason(policy: Policy, proposal: Proposal | None, mode: SemanticMode) -> tuple[bool, str]:
    if proposal is None:
        return False, "no question like it, with all else the same, has an answer that may be given now"
    if proposal.veto is not None:
        return False, f"the nearest question differs in something that forbids its answer: {proposal.veto}"
    decision = policy.decide(proposal)
    if not decision.serve:
        return False, (
            f"the nearest question's answer is right with probability {decision.probability:.4f}, which is too little "
            f"for the promise: {policy.certificate().reason}"
        )
    if mode == "shadow":
        return False, f"it would be given (p={decision.probability:.4f}), but the mode is shadow, which only looks on"
    return True, f"the nearest question's answer is right with probability {decision.probability:.4f}"
