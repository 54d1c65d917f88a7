"""Writes a language model of half a megabyte for llama.cpp: PYTHON tiny_model.py FILE, with `gguf` and `numpy`.

A complete llama architecture with random weights, in which the output layer points from each token of one sentence to
the next and then to the end of the text. So at temperature 0 it always says that sentence and stops by itself.
"""

import itertools
import sys

import gguf
import numpy as np

WIDTH, HEADS, LAYERS, FEED, CONTEXT = 64, 4, 2, 128, 1024
NOISE = 0.02
"""How much the attention and the feed-forward layers say; the sentence is far louder."""
CHAT = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
START = ":"
END = "</s>"
SENTENCE = ["Rivers", "▁flow", "▁through", "▁many", "▁lands", "▁before", "▁they", "▁reach", "▁an", "▁ocean", "."]


def vocabulary() -> dict[str, gguf.TokenType]:
    """Three control tokens, every byte, which SentencePiece models must have, ASCII characters and the words."""
    kinds = gguf.TokenType
    tokens = {"<unk>": kinds.UNKNOWN, "<s>": kinds.CONTROL, END: kinds.CONTROL}
    tokens |= {f"<0x{byte:02X}>": kinds.BYTE for byte in range(256)}
    tokens |= dict.fromkeys(["▁", *map(chr, range(33, 127))], kinds.NORMAL)
    return tokens | dict.fromkeys(SENTENCE, kinds.NORMAL)


def write(path: str) -> None:
    tokens = vocabulary()
    places = {token: place for place, token in enumerate(tokens)}
    random = np.random.default_rng(7)

    def weights(*shape: int, scale: float = NOISE) -> np.ndarray:
        return random.normal(0, scale, shape).astype(np.float32)

    embeddings = weights(len(tokens), WIDTH, scale=1.0)
    output = weights(len(tokens), WIDTH)
    for before, after in itertools.pairwise([START, *SENTENCE, END]):
        output[places[after]] = embeddings[places[before]]

    model = gguf.GGUFWriter(path, "llama")
    model.add_name("tiny")
    model.add_context_length(CONTEXT)
    model.add_embedding_length(WIDTH)
    model.add_block_count(LAYERS)
    model.add_feed_forward_length(FEED)
    model.add_head_count(HEADS)
    model.add_head_count_kv(HEADS)
    model.add_layer_norm_rms_eps(1e-5)
    model.add_rope_dimension_count(WIDTH // HEADS)
    model.add_vocab_size(len(tokens))
    model.add_tokenizer_model("llama")
    model.add_token_list([token.encode() for token in tokens])
    model.add_token_types([int(kind) for kind in tokens.values()])
    model.add_token_scores([-float(place) for place in places.values()])
    model.add_unk_token_id(places["<unk>"])
    model.add_bos_token_id(places["<s>"])
    model.add_eos_token_id(places[END])
    model.add_chat_template(CHAT)
    model.add_tensor("token_embd.weight", embeddings)
    model.add_tensor("output.weight", output)
    model.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            model.add_tensor(f"blk.{layer}.{part}.weight", weights(WIDTH, WIDTH))
        model.add_tensor(f"blk.{layer}.ffn_gate.weight", weights(FEED, WIDTH))
        model.add_tensor(f"blk.{layer}.ffn_up.weight", weights(FEED, WIDTH))
        model.add_tensor(f"blk.{layer}.ffn_down.weight", weights(WIDTH, FEED))
        for part in ("attn_norm", "ffn_norm"):
            model.add_tensor(f"blk.{layer}.{part}.weight", np.ones(WIDTH, np.float32))
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


if __name__ == "__main__":
    write(sys.argv[1])
