import msgspec
import pytest

from penstock.core.call import Call
from penstock.core.errors import InvalidRequest
from penstock.core.handler import compose
from penstock.core.request import Request
from penstock.core.response import Response

REQUEST = Request("chat", "m", {}, Call("id"))


class Named:
    """A layer that writes down when it is passed, and passes on a changed request."""

    def __init__(self, name, log):
        self.name = name
        self.log = log

    async def __call__(self, request, inner, /):
        self.log.append(f"{self.name} in")
        response = await inner(msgspec.structs.replace(request, tags=(*request.tags, self.name)))
        self.log.append(f"{self.name} out")
        return response


async def test_the_first_layer_is_outermost():
    log = []

    async def innermost(request):
        log.append(request.tags)
        return Response(body=b"{}")

    handler = compose([Named("a", log), Named("b", log)], innermost)
    assert await (await handler(REQUEST)).read() == b"{}"
    assert log == ["a in", "b in", ("a", "b"), "b out", "a out"]
    assert REQUEST.tags == (), "nobody changes a request"


async def test_a_handler_can_be_called_many_times():
    log = []

    async def innermost(request):
        return Response(body=b"{}")

    handler = compose([Named("a", log)], innermost)
    await handler(REQUEST)
    await handler(REQUEST)
    assert log == ["a in", "a out"] * 2


async def test_errors_pass_through_and_layers_may_answer_themselves():
    async def fail(request):
        raise InvalidRequest("no")

    async def instead(request, inner, /):
        try:
            return await inner(request)
        except InvalidRequest:
            return Response(body=b'"instead"')

    with pytest.raises(InvalidRequest):
        await compose([Named("a", [])], fail)(REQUEST)
    assert await (await compose([instead, Named("a", [])], fail)(REQUEST)).read() == b'"instead"'


async def test_no_layers_leave_the_handler():
    async def innermost(request):
        return Response(body=b"{}")

    assert compose([], innermost) is innermost
