"""Runs inside GPTCache's own environment: plays a stream of vectors through the package.

    python drive_gptcache.py STREAM.npz THRESHOLD

Vectors come ready-made. Entries and vectors are kept in memory and searched exactly, for the package's own stores need
SQLAlchemy and faiss; embedding, search, evaluation of similarity and the decision go through its `adapt`, with
`SearchDistanceEvaluation` and its default of one neighbour. Prints, as one JSON list, which earlier request answered
each, or null.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from gptcache import Cache, Config
from gptcache.adapter.adapter import adapt
from gptcache.manager.data_manager import SSDataManager
from gptcache.manager.scalar_data.base import CacheStorage
from gptcache.manager.vector_data.base import VectorBase
from gptcache.processor.post import first
from gptcache.processor.pre import get_prompt
from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation


class Entries(CacheStorage):  # type: ignore[misc] # the package is not installed here
    """What was asked and answered, in memory."""

    def __init__(self) -> None:
        self._entries: list[Any] = []

    def batch_insert(self, all_data: list[Any]) -> list[int]:
        self._entries.extend(all_data)
        return list(range(len(self._entries) - len(all_data), len(self._entries)))

    def get_data_by_id(self, key: int) -> Any:  # noqa: ANN401 - the package's signature
        return self._entries[key]

    def get_ids(self, deleted: bool = True) -> list[int]:  # noqa: FBT001, FBT002 - the package's signature
        return [] if deleted else list(range(len(self._entries)))

    def count(self, state: int = 0, is_all: bool = False) -> int:  # noqa: FBT001, FBT002 - the package's signature
        return len(self._entries)

    def nothing(self, *_arguments: object, **_named: object) -> None:
        """Sessions, deletions and reports are not used."""

    create = mark_deleted = clear_deleted_data = add_session = list_sessions = delete_session = nothing
    report_cache = close = nothing


class Vectors(VectorBase):  # type: ignore[misc] # as above
    """Exact search by squared distance, as with faiss' flat index."""

    def __init__(self, most: int, dimensions: int) -> None:
        self._vectors = np.zeros((most, dimensions), np.float32)
        self._ids: list[int] = []

    def mul_add(self, datas: list[Any]) -> None:
        for each in datas:
            self._vectors[len(self._ids)] = each.data
            self._ids.append(each.id)

    def search(self, data: np.ndarray, top_k: int = -1) -> list[tuple[float, int]] | None:
        if not self._ids:
            return None
        cosines = self._vectors[: len(self._ids)] @ np.asarray(data, np.float32)
        best = int(np.argmax(cosines))
        return [(float(2 - 2 * cosines[best]), self._ids[best])]

    def rebuild(self, ids: object = None) -> bool:
        return True

    def delete(self, ids: object) -> bool:
        return True


def play(vectors: np.ndarray, threshold: float) -> list[int | None]:
    cache = Cache()
    manager = SSDataManager(Entries(), Vectors(*vectors.shape), None, None, len(vectors) + 1, 1)
    cache.init(
        pre_embedding_func=get_prompt,
        embedding_func=lambda prompt, **_named: vectors[int(prompt)],
        data_manager=manager,
        similarity_evaluation=SearchDistanceEvaluation(),
        post_process_messages_func=first,
        config=Config(similarity_threshold=threshold, disable_report=True),
    )
    served: list[int | None] = []
    for number in range(len(vectors)):
        own = str(number)

        def ask(*_arguments: object, own: str = own, **_named: object) -> str:
            return own

        def keep(answer: str, update: Any, *_arguments: object, **_named: object) -> str:  # noqa: ANN401 - the package's signature
            update(answer)
            return answer

        found = adapt(ask, lambda answer: answer, keep, prompt=own, cache_obj=cache)
        served.append(None if found == own else int(found))
    return served


if __name__ == "__main__":
    print(json.dumps(play(np.load(sys.argv[1])["vectors"], float(sys.argv[2]))))
