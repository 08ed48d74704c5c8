"""What Google charges for training and for answers: one dated table. Prices move; newer ones can be given.

Source: third-party copies of https://cloud.google.com/vertex-ai/generative-ai/pricing, as read on the day below;
standard tier, text. Answers of tuned Gemini 3 models cost half as much again as those of their base.
"""

from __future__ import annotations

from datetime import date

AS_OF = date(2026, 11, 25)
"""When the table was read."""

TUNED_FACTOR = 1.5
"""How much more the answers of a tuned Gemini 3 model cost than those of its base."""

# Model; US dollars for a million tokens of training, of a question, of an answer ("-": not known).
_TABLE = """
gemini-3.5-flash       10     1.50   9.00
gemini-3.5-flash-lite   -     0.30   2.50
gemini-3.1-flash-lite   3     0.25   1.50
gemini-2.5-pro         25     -      -
gemini-2.5-flash        5     -      -
gemini-2.5-flash-lite   1.5   -      -
"""

_ROWS = [line.split() for line in _TABLE.strip().splitlines()]

TRAINING = {model: float(training) for model, training, _, _ in _ROWS if training != "-"}
"""US dollars for a million training tokens, by model."""

ANSWERS = {model: (float(asked), float(told)) for model, _, asked, told in _ROWS if asked != "-"}
"""US dollars for a million tokens of questions and of answers, by model."""
