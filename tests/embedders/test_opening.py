import pytest

from penstock import AsyncClient
from penstock.config.semantic import EmbedderSettings
from penstock.core.errors import ConfigError
from penstock.embedders.opening import open_embedder
from penstock.testing import check_embedder

CONFIG = {
    "providers": [{"name": "sim", "kind": "simulated", "latency": {"first_token_s": 0}}],
    "store": {"url": "memory:"},
}


async def test_settings_name_the_embedder(tiny):
    async with AsyncClient(CONFIG) as client:
        made = [
            await open_embedder(EmbedderSettings(**settings), client.handle)
            for settings in (
                {},
                {"kind": "onnx", "path": str(tiny), "threads": 2, "max_tokens": 3},
                {"kind": "provider", "model": "sim/e"},
            )
        ]
        assert [embedder.name.partition(":")[0] for embedder in made] == ["lexical", "onnx", "provider"]
        (cut,) = await made[1].embed(["reset my password now"])
        assert [cut] == await made[1].embed(["reset my password"])
        for embedder in made:
            await check_embedder(embedder)


async def test_what_cannot_be_loaded_is_a_configuration_error(tmp_path):
    async with AsyncClient(CONFIG) as client:
        with pytest.raises(ConfigError, match="has no ONNX graph"):
            await open_embedder(EmbedderSettings(kind="onnx", path=str(tmp_path)), client.handle)
