"""What of a long text is selected for a question, beside other ways, how fast, and what conversations cost with it.

    python -m benchmarks.context --data DIR [--part recall ...] [--later 0.2] [--processes 1] [--plot FILE] [--json]

    recall   QMSum: the mean share of the turns that answer a question which is selected at 2,048, 4,096 and 8,192
             tokens, and of their tokens; on the meetings that weights were not fitted on (`benchmarks.context_fit`).
             A turn has the tokens of ``speaker: text``, characters / 4. Beside it the last turns, BM25, and BM25 with
             the scores of five neighbours on either side added
    timing   selecting for a question in meetings of 20,000 to 30,000 tokens, and building their index
    bill     what conversations cost (`.conversations`: six meetings, and the questions about them), at the prices of
             the list and by providers' rules for prefixes that repeat (`.providers`): the whole history, turns
             retrieved anew for each question, and what Penstock plans. The ratios compare bills at the recall that
             the plan has; those without the name of a model are of the model for which they are worst

Progress goes to stderr; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.context.bill import bills
from benchmarks.context.conversations import LATER
from benchmarks.context.data import Meeting, read_meetings
from benchmarks.context.plot import plot
from benchmarks.context.recall import recall, timing
from benchmarks.outcome import finish
from benchmarks.processes import say

PARTS: dict[str, Callable[[list[Meeting], argparse.Namespace], dict[str, Any]]] = {
    "recall": lambda meetings, _: recall(meeting for meeting in meetings if not meeting.fitted),
    "timing": lambda meetings, _: timing(meetings),
    "bill": lambda meetings, options: _bill(meetings, options),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.context", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--part", action="append", choices=[*PARTS], help="only these; by default all")
    parser.add_argument("--later", type=float, default=LATER, help="share of questions asked after a later meeting")
    parser.add_argument("--processes", type=int, default=1, help="for bills")
    parser.add_argument("--plot", type=Path, help="write a chart of bills against recall, as SVG")
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    options = parser.parse_args()
    started, figures = time.monotonic(), dict[str, Any]()
    meetings = read_meetings(options.data)
    for name, part in PARTS.items():
        if options.part is None or name in options.part:
            say(name)
            figures |= part(meetings, options)
    finish(figures, started=started, n=figures.pop("questions", len(meetings)))


def _bill(meetings: list[Meeting], options: argparse.Namespace) -> dict[str, Any]:
    figures, curves = bills(meetings, later=options.later, processes=options.processes)
    if options.plot:
        plot(curves, options.plot)
    return figures


if __name__ == "__main__":
    main()
