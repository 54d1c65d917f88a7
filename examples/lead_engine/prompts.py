"""The prompts' names, and what is said when there is no file for one."""

from __future__ import annotations

from typing import Any

PREFILTER, CLASSIFY, DOSSIER = "prefilter_signal", "classify_signal", "lead_dossier"

_CLASSIFYING = {"text": "string", "labels": "string", "form": "string"}
BUILT_IN: dict[str, Any] = {
    PREFILTER: {
        "system": "Score from 0 to 100 how likely it is that a company that writes this wants to buy marketing "
        "services, and choose its category.\n{{ form }}",
        "user": "{{ text }}",
        "variables": _CLASSIFYING,
    },
    CLASSIFY: {
        "system": "You qualify leads for a marketing agency. Choose the category of the signal, score from 0 to 100 "
        "how good a lead it is, and say how urgent it is and which company it is about.\n{{ form }}",
        "user": "{{ text }}",
        "variables": _CLASSIFYING,
    },
    DOSSIER: {
        "system": "Write a dossier of at most 150 words about a lead for a salesperson: what the company wants, why "
        "now, and what to offer.",
        "user": "Category: {{ category }}\nSignal: {{ text }}",
        "variables": {"text": "string", "category": "string"},
    },
}
"""In the form of the files in `templates`."""
