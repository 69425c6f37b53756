"""Verdicts of judges: what they write, what is read from it, and what is missing."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arm.evals.benchmarks.editing import read_imgedit, read_viescore
from arm.evals.benchmarks.wise import read_legacy, read_verified
from arm.judge import DRAWING, read_verdict
from arm.judge.answer import LONGEST, final_answer
from arm.judge.scale import Scale
from arm.judge.verdicts import read_scores

THREE = [
    ("Consistency: 2\nRealism: 1\nAesthetic Quality: 0", (2, 1, 0)),
    ("Consistency: 3\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: 2\nRealism: 1", None),
    ("Consistency: 1.5\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: 2.\nRealism: 1.\nAesthetic Quality: 0.", (2, 1, 0)),
    ("Consistency: 2. Realism: 1. Aesthetic Quality: 0.", (2, 1, 0)),
    ("**Consistency (0-2):** 2\n**Realism** (0-2): 1\nAesthetic Quality (0 to 2) 0", (2, 1, 0)),
    ("Consistency 2\n| Realism | 1 |\nAesthetic Quality\uff1a0", (2, 1, 0)),
    ("Consistency (0-2): 3\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency 0-2: 1\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency 1.5\nRealism: 1\nAesthetic Quality: 0", None),
    ("Of its consistency 1 word\nConsistency: 2\nRealism: 1\nAesthetic Quality: 0", (2, 1, 0)),
    ("Consistency:\n1. The star is red.\nRealism: 1\nAesthetic Quality: 0", None),
    ("", None),
    (
        "| Criterion | Score |\n|---|---|\n| Consistency | 2 |\n| Realism | 1 |\n| Aesthetic Quality | 0 |",
        (2, 1, 0),
    ),
    (
        "| Criterion | Score | Why |\n|---|:-:|---|\n| **Consistency** | 2 | 1 cat |\n| Realism | 1/2 | ok |\n| Aesthetic Quality | **0** | no |",
        (2, 1, 0),
    ),
    ("| Consistency | Realism | Aesthetic Quality |\n|---|---|---|\n| 2 | 1 | 0 |", (2, 1, 0)),
    ('{"Consistency": 2, "Realism": 1, "Aesthetic Quality": 0}', (2, 1, 0)),
    (
        '```json\n{\n  "consistency": "2",\n  "realism": 1.0,\n  "aesthetic_quality": 0,\n}\n```',
        (2, 1, 0),
    ),
    (
        "{'consistency': 2, 'realism': 1, 'aesthetic_quality': 0, 'reasoning': 'it doesn\\'t show Realism: 2'}",
        (2, 1, 0),
    ),
    (
        '{"Consistency": {"score": 2, "reason": "x 1"}, "Realism": {"score": 1, "reason": "y"}, "Aesthetic Quality": {"score": 0}}',
        (2, 1, 0),
    ),
    (
        "<think>Consistency: 0\nRealism: 0\nAesthetic Quality: 0</think>\nConsistency: 2\nRealism: 1\nAesthetic Quality: 0",
        (2, 1, 0),
    ),
    (
        "Draft:\nConsistency: 0\nRealism: 0\nAesthetic Quality: 0\n\nFinal:\nConsistency: 2\nRealism: 1\nAesthetic Quality: 0",
        (2, 1, 0),
    ),
    ("CONSISTENCY: 2\nREALISM: 1\nAESTHETIC QUALITY: 0", (2, 1, 0)),
    ("### Consistency\n2\n### Realism\n1\n### Aesthetic Quality\n0", (2, 1, 0)),
    ("1. Consistency: 2\n2. Realism: 1\n3. Aesthetic Quality: 0", (2, 1, 0)),
    (
        "- **Consistency**: 2 (mostly)\n- **Realism**: 1 - fine\n- **Aesthetic Quality**: 0/2",
        (2, 1, 0),
    ),
    ("Consistency: 2, Realism: 1, Aesthetic Quality: 0", (2, 1, 0)),
    ("Consistency = 2; Realism = 1; Aesthetics = 0", (2, 1, 0)),
    ("Consistency: 2 out of 2\nRealism: 1 out of 2\nAesthetic Quality: 0 out of 2", (2, 1, 0)),
    ("Consistency:2\nRealism:1\nAesthetic Quality:0", (2, 1, 0)),
    ("Consistency\uff1a\uff12\nRealism\uff1a\uff11\nAesthetic Quality\uff1a\uff10", (2, 1, 0)),
    (
        "\u3010Consistency\u3011\uff1a2\n\u3010Realism\u3011\uff1a1\n\u3010Aesthetic Quality\u3011\uff1a0",
        (2, 1, 0),
    ),
    ("Consistency: 1-2\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: between 1 and 2\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: 2\nRealism: 1\nAesthetic Quality: 0\nConsistency: 1\nReal", None),
    ("Consistency score: 2\nRealism score: 1\nAesthetic Quality score: 0", (2, 1, 0)),
    ("**Example Output:**\nConsistency: 2\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency is 2.\nRealism is 1.\nAesthetic quality is 0.", (2, 1, 0)),
    ("Consistency: 4/5\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: **2**\n**Realism:** **1**\n__Aesthetic Quality__: `0`", (2, 1, 0)),
    ("Consistency: -1\nRealism: 1\nAesthetic Quality: 0", None),
    (
        "<consistency>2</consistency><realism>1</realism><aesthetic_quality>0</aesthetic_quality>",
        (2, 1, 0),
    ),
    (
        "Consistency: 2\nRealism: 1\nAesthetic Quality: 0\n\nReasoning: Realism: 1 since it is flat.",
        (2, 1, 0),
    ),
    (
        '{"scores": {"Consistency": 2, "Realism": 1, "Aesthetic Quality": 0}, "reasoning": "Consistency: 0"}',
        (2, 1, 0),
    ),
    (
        '[{"criterion": "Consistency", "score": 2}, {"criterion": "Realism", "score": 1}, {"criterion": "Aesthetic Quality", "score": 0}]',
        (2, 1, 0),
    ),
    ("Consistency: 2 Realism: 1 Aesthetic Quality: 0", (2, 1, 0)),
    ("Consistency: 2/2 | Realism: 1/2 | Aesthetic Quality: 0/2", (2, 1, 0)),
    ("| Consistency: 2 | Realism: 1 | Aesthetic Quality: 0 |", (2, 1, 0)),
    ("Consistency | 2\nRealism | 1\nAesthetic Quality | 0", (2, 1, 0)),
    ("Consistency\n2\nRealism\n1\nAesthetic Quality\n0", (2, 1, 0)),
    ("**Consistency:**\n2\n\n**Realism:**\n1\n\n**Aesthetic Quality:**\n0", (2, 1, 0)),
    (
        "Consistency: 2 (Exemplary)\nRealism: 1 (Conditional)\nAesthetic Quality: 0 (Rejected)",
        (2, 1, 0),
    ),
    (
        "Consistency: 2\nRealism: 1\nAesthetic Quality: 0\n\nConsistency: 1\nRealism: 1\nAesthetic Quality: 1",
        (1, 1, 1),
    ),
    ("Consistency: 2. Realism: 1. Aesthetic Quality: 0. Hmm, Realism: 2.", None),
    ("Consistency: 2\nRealism: 1 or 2\nAesthetic Quality: 0", None),
    ("Consistency: 2,5\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: 2+\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: ~2\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: <2\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: 2%\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: 2nd\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: 1 to 2\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: at most 2\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: at least 1\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency: 2\u20131\nRealism: 1\nAesthetic Quality: 0", None),
    ("Consistency (2): good\nRealism (1): ok\nAesthetic Quality (0): bad", None),
    (
        "**Consistency: 2**\n\n**Realism: 1**\n\n**Aesthetic Quality: 0**\n\nThe picture has 3 stars of 4.",
        (2, 1, 0),
    ),
    ("Consistency: 2 \nRealism: 1 \nAesthetic", None),
    ("Consistency: 2\nRealism: 1\nAesthetic Quality:", None),
    ("Consistency: 2 points\nRealism: 1 point\nAesthetic Quality: 0 points", (2, 1, 0)),
    ("Consistency: 2; Realism: 1; Aesthetic Quality: 0; Total: 3", (2, 1, 0)),
    ('"Consistency": 2,\n"Realism": 1,\n"Aesthetic Quality": 0', (2, 1, 0)),
    ("- Consistency \u2014 2\n- Realism \u2014 1\n- Aesthetic Quality \u2014 0", (2, 1, 0)),
    ("Consistency \u2192 2\nRealism -> 1\nAesthetic Quality => 0", (2, 1, 0)),
    ("(Consistency: 2) (Realism: 1) (Aesthetic Quality: 0)", (2, 1, 0)),
    (
        "Consistency: 2\nRealism: 2\nAesthetic Quality: 2\n\nNo, that is too kind.\n\nConsistency: 2\nRealism: 1\nAesthetic Quality: 0",
        (2, 1, 0),
    ),
    (
        "| **Consistency** | **2** |\n| **Realism** | **1** |\n| **Aesthetic Quality** | **0** |",
        (2, 1, 0),
    ),
    ("|Consistency|Realism|Aesthetic Quality|\n|:-:|:-:|:-:|\n|2|1|0|", (2, 1, 0)),
    (
        "| Metric | Max | Score |\n|---|---|---|\n| Consistency | 2 | 2 |\n| Realism | 2 | 1 |\n| Aesthetic Quality | 2 | 0 |",
        (2, 1, 0),
    ),
    ("| Consistency | 2 | 1 |\n| Realism | 1 | 1 |\n| Aesthetic Quality | 0 | 0 |", None),
    ("Consistency\uff082\uff09\uff1a2\nRealism\uff1a1\nAesthetic Quality\uff1a0", (2, 1, 0)),
]
"""Consistency, realism and aesthetic quality, 0 to 2 each."""
BINARY = [
    ("Score: 1", 1),
    ("Score: 2", None),
    ("Score: 1.", 1),
    ("Score: 10", None),
    ("Score: 0.5", None),
    ("**Score** (0-1): 0", 0),
    ("Score 1", 1),
    ("Score\uff1a1", 1),
    ("Score 10", None),
    ("<think>wrong would be Score: 0</think>\nScore: 1", 1),
    ("<think>The form is Score: 1", None),
    ("Score: 0\n\nor\n\nScore: 1", None),
    ("Return only `Score: 0` or `Score: 1`.", None),
    ("Return only `Score: 0` or `Score: 1`.\nScore: 1", 1),
    ("Score: 0. Wait, actually Score: 1", 1),
    ("Score: 0 or 1", None),
    ("Score: 0/1", 0),
    ("Score: 1/1", 1),
    ("Score: 1/2", None),
    ("Score: 0-1", None),
    ("Score: [1]", 1),
    ("\\boxed{1}", 1),
    ("1", 1),
    ("**1**", 1),
    ("Score: -1", None),
    ("Score -1", None),
    ("Score: 1?", None),
    ("Score: 1\nConfidence score: 0", 1),
    ("Draft score: 1", None),
    ("The score is 1.", 1),
    ("I give it a score of 1.", 1),
    ("Score: 1.0", 1),
    ('{"score": 1}', 1),
    ('{"score": "1"}', 1),
    ('{"score": 1, "reasoning": "score: 0 would be harsh"}', 1),
    ('{"score": 1', None),
    ('{"score": 1, "reasoning": "the', None),
    ("Score: 1 because 2 stars are visible", 1),
    ("Score: 1 if it were red", None),
    ("Score: 1, not Score: 0", 1),
    ("Score: 0\nScore:", None),
    ("Score: 0\nHmm, wait.", None),
    ("Final Score: 1", 1),
    ("SCORE: 1", 1),
    ("# Score\n1", 1),
    ("Score:\n\n1", 1),
    ("Score: one", None),
    ("Score: 1\u20e3", 1),
    ("Score: 1\ufe0f\u20e3", 1),
    ("~~Score: 0~~ Score: 1", 1),
    ("| Score |\n|---|\n| 1 |", 1),
    ("| Score | 1 |", 1),
    ("Score: 90%", None),
    ("Score: 1%", None),
    ("Score: \xbd", None),
    ("Score: 1\xb2", None),
    ("Score: (1)", 1),
    ("The image is right.\n\nScore: 1<|im_end|>", 1),
    ("<answer>Score: 1</answer>", 1),
    ("<score>1</score>", 1),
    ("Score: 1</think>", None),
    (
        "<|channel|>analysis<|message|>Score: 0<|end|><|start|>assistant<|channel|>final<|message|>Score: 1",
        1,
    ),
    ("[THINK]Score: 0[/THINK]Score: 1", 1),
    ("\u25c1think\u25b7Score: 0\u25c1/think\u25b7Score: 1", 1),
    ("<thinking>Score: 0</thinking>Score: 1", 1),
    ("Score: 1\n<think>hm", None),
    ("Score: 0</think", None),
    ("Score: 1, maybe 0", None),
    ("Score: 0 \u2192 1", None),
    ("Score: 1 (maybe 0)", None),
    ("Score: 0\nReasoning: a Score: 1 would need a moon", 0),
    ("Score: 0\nReasoning: so in the end Score: 1", None),
    ("Quality score: 1", None),
    ("| Check | Score |\n|---|---|\n| objects | 1 |\n| relations | 0 |", None),
    ("Score: N/A", None),
    ("I cannot judge this image.", None),
    ("Score:1", 1),
    ("Score=1", 1),
    ("Score - 1", 1),
    ("Score \u2013 1", 1),
    ("score: +1", 1),
    ("Answer: Score: 1", 1),
    ("Score: 1 point", 1),
    ("Score: 1 (out of 1)", 1),
    ("Score: 1 (0-1)", 1),
    ("Score: 1 or 0", None),
    ("Score: **1**/1", 1),
    ("Score: 1 / 1", 1),
    ("Score\uff1a\uff11\u3002", 1),
    ("Final answer: Score: 1", 1),
    ("**Final Score: 1**", 1),
    ("Let me think. The prompt asks for 3 cats, 2 are there.\n\nScore: 0", 0),
    ("Score: 1\n\nThe image shows a moon. There are 0 artifacts.", 1),
    ("Score: 1 - The image shows a moon with 2 stars.", 1),
    ("Score: 1; the image is right", 1),
    ("At first I would say Score: 0, but on closer look, Score: 1", 1),
    ("Initially: Score: 0. Corrected: Score: 1.", 1),
    ("Initial score: 0. Corrected score: 1.", 1),
    ("Score: 1 \u2014 correct", 1),
    ("- Score: 1", 1),
    ("> Score: 1", 1),
    (">Score: 1", 1),
    ("$Score: 1$", 1),
    ("$\\boxed{Score: 1}$", 1),
    ("$\\boxed{\\text{Score: } 1}$", 1),
    ("Score: 1\n---\nPROMPT: x", 1),
    ("score: 1, reasoning: it's fine", 1),
    ("```\nScore: 1\n```", 1),
    ("`Score: 1`", 1),
    ('"Score: 1"', 1),
    ("'Score: 1'", 1),
    ('{"Score": 1.0}', 1),
    ("{score: 1}", 1),
    ("Score:\t1", 1),
    ("Score: 1\r\n", 1),
    ("Binary Score: 1", 1),
    ("Score: `1`", 1),
    ("Score: <1>", 1),
    ("Score: 11", None),
    ("Score: 01", 1),
    ("Score: 1 or Score: 0", None),
    ("Score: 0 | Score: 1", None),
    ("Either Score: 0 or Score: 1 is possible", None),
    ("Score: 1 vs. Score: 0", None),
    ("I'd give Score: 1", 1),
    ("I'm not giving Score: 1", None),
    ("It does not deserve a Score: 1.", None),
    ("The score should be 1.", None),
    ("Therefore the score should be: 1", None),
    ("Score: 0\n\nWait, let me reconsider.\n\nScore: 1", 1),
    ("<think>\nScore: 0\n", None),
    ("Okay, let me see.\nScore: 0?\n</think>\n\nScore: 1", 1),
    ("<think></think>Score: 1", 1),
    ("<THINK>Score: 0</THINK> Score: 1", 1),
    ("<think>a</think><think>Score: 0</think>Score: 1", 1),
    ("<think>a</think>Score: 0<think>Score: 1", None),
    ("\uff1cthink\uff1eScore: 0\uff1c/think\uff1eScore: 1", 1),
    ("<think>Score: 0</think>", None),
    ("</think>Score: 1", 1),
    ("Score: 1\n</think>\n", None),
]
"""A score of 0 or 1."""
PAIRS = [
    ('||V^=^V||\n{\n"score" : [5, 7],\n"reasoning" : "r"\n}\n||V^=^V||', (5.0, 7.0)),
    ('{"score": [11, 5]}', None),
    ('{"score": [5]}', None),
    ('{"score": ["5", 5]}', (5, 5)),
    ("score: 5 and 5", None),
    ("", None),
    ('<think>score: [1, 1]? no</think>{"score": [9, 9]}', (9, 9)),
    ('score: [1, 1]? no\n{"score": [9, 9]}', (9, 9)),
    ('{"score": [9, 9], "reasoning": "score: [5, 5] would be harsh"}', (9, 9)),
    ('{"score": [9, 9], "reasoning": "The "hat" exists, "score": fine"}', (9, 9)),
    ('{"score": [9, 9], "reasoning": "line one\nline two"}', (9, 9)),
    ("{'score': [9, 8.5], 'reasoning': 'it doesn't fit'}", (9, 8.5)),
    ('{"score": [9, 9,], // fine\n "reasoning": "x",}', (9, 9)),
    ('{"score": [9, // success\n 8 // over\n], "reasoning": "x"}', (9, 8)),
    ('{"score": ["9/10", "8 (mostly)"]}', (9, 8)),
    ('{"score": [9.0, 8.0]}', (9, 8)),
    ("**Score:** [7, 8]", (7, 8)),
    ("[7, 8]", (7, 8)),
    ("Fine.\n[7, 8]", (7, 8)),
    ("`[7, 8]`", (7, 8)),
    ("output score = [7, 8]", (7, 8)),
    ("| score | [7, 8] |", (7, 8)),
    ("\uff3b7\uff0c8\uff3d", (7, 8)),
    ('\uff5b"score"\uff1a\uff3b7\uff0c8\uff3d\uff5d', (7, 8)),
    ('{"score": [9, 9', None),
    ('{"score": [9, 9], "reasoning": "cut', None),
    ('{"score": [7-8, 9]}', None),
    ("[7, 8] or [8, 8]", None),
    ("Score: [7, 8]\nScore: [9, 9]", (9, 9)),
    ('{"score" : [...],\n"reasoning" : "..."}', None),
    ("Score: (7, 8)", (7, 8)),
    ('{"score": [true, 5]}', None),
    ('{"score": [NaN, 5]}', None),
    ('{"score": [9, 9], "draft_score": [1, 1]}', (9, 9)),
    ('{"SCORE": [7, 8]}', (7, 8)),
    ('{\n  "score": [\n    7,\n    8\n  ],\n  "reasoning": "x"\n}', (7, 8)),
    ('For example {"score": [5, 10]}', None),
    ('{"score": [7, 8]} {"score": [7,', None),
    ('{"reasoning": "first I thought score: [1, 1]", "score": [7, 8]}', (7, 8)),
    ('{"result": {"score": [7, 8]}}', (7, 8)),
    ('{"score": [7/10, 8/10]}', (7, 8)),
    ('{"score": [7, 8, 9]}', None),
    ("**Score**: [7, 8]", (7, 8)),
    ("score: [7,8] reasoning: good", (7, 8)),
    ("Scores: [7, 8]", (7, 8)),
    ('{"score": [ 7 , 8 ]}', (7, 8)),
    ('{"score": [7; 8]}', (7, 8)),
    ('```json\n{"score": [7, 8], "reasoning": "ok"}\n```', (7, 8)),
    ('json\n{"score": [7, 8]}', (7, 8)),
    ('{"score": "[7, 8]"}', (7, 8)),
    ("{'score': [7, 8]}", (7, 8)),
    ('{"score": [7, 8], "reasoning": "a } brace and a ] bracket"}', (7, 8)),
    ('{"score": [7, 8], "reasoning": "it is \\"good\\", really"}', (7, 8)),
    ('{"reasoning": "The edit: \\"score\\": [1, 1]", "score": [7, 8]}', (7, 8)),
    (
        'The first: {"score": [1, 1], "reasoning": "bad"}. On reflection: {"score": [7, 8], "reasoning": "good"}',
        (7, 8),
    ),
    ('{"score": [7, 8]}\n\nNote: this is {"score": [7, 8]}', (7, 8)),
    ('{"score": [7, 8], "reasoning": "ok"', None),
    ('{"score": [7, 8], "reasoning": "ok"}\n{"sco', None),
    ("[7, 8", None),
    ('{"score": [7, 8', None),
    ('{"score": [-7, 8]}', None),
    ('{"score": [7.5.1, 8]}', None),
    ('{"score": [7, "high"]}', None),
    ('{"score": [null, 8]}', None),
    ('{"score": [7, 8]} or {"score": [8, 8]}', None),
    ('{"score": [1e1, 8]}', None),
    ("Score: [7 out of 10, 8 out of 10]", (7, 8)),
    ('{"score":[10,10]}', (10, 10)),
    ('{"score":[0,0]}', (0, 0)),
    ('{"score": [7, 8], "score": [9, 9]}', (9, 9)),
]
"""Two scores from 0 to 10."""


@pytest.mark.parametrize(("reply", "expected"), THREE)
def test_three_scores(reply: str, expected: tuple | None):
    assert read_legacy(reply) == expected


@pytest.mark.parametrize(("reply", "expected"), BINARY)
def test_a_binary_score(reply: str, expected: int | None):
    assert read_verified(reply) == expected


@pytest.mark.parametrize(("reply", "expected"), PAIRS)
def test_a_pair_of_scores(reply: str, expected: tuple | None):
    assert read_viescore(reply) == expected


MORE = [
    (
        read_verified,
        "The image shows a moon.\nScore: 1\n\n(Score: 0 would need a missing moon.)",
        1,
    ),
    (read_verified, "I considered Score: 0 but settle on Score: 1.", 1),
    (read_verified, "Score: 0 is too harsh; Score: 1", 1),
    (read_verified, "Is it Score: 0? No. Score: 1", 1),
    (read_verified, "Score = 1", 1),
    (read_verified, "SCORE\uff1a\uff11", 1),
    (read_verified, "score:1.", 1),
    (read_verified, "**Score: 1** - the image is correct.", 1),
    (read_verified, "Score:\n```\n1\n```", 1),
    (read_verified, "My score: 1", 1),
    (read_verified, "Score: true", None),
    (read_verified, '{"score": true}', None),
    (read_verified, '{"score": null}', None),
    (read_verified, '{"score": ""}', None),
    (read_verified, "Score: between 0 and 1", None),
    (read_verified, "Score: 1\nScore: 0.5", None),
    (read_verified, "Score 1/1", 1),
    (read_verified, "1/1", 1),
    (read_verified, "0", 0),
    (read_verified, "10", None),
    (read_verified, "1 0", None),
    (read_verified, "Score: 1\u20e31", None),
    (read_legacy, "Consistency: 2\nRealism: 1\nAesthetic Quality: 0\nOverall: 1", (2, 1, 0)),
    (read_legacy, "**Consistency**: 2\xa0\n**Realism**: 1\n**Aesthetic Quality**: 0", (2, 1, 0)),
    (read_legacy, "Consistency:2 Realism:1 Aesthetic Quality:0", (2, 1, 0)),
    (read_legacy, "Consistency: 2 / Realism: 1 / Aesthetic Quality: 0", (2, 1, 0)),
    (
        read_legacy,
        "Consistency (0-2): 2 | Realism (0-2): 1 | Aesthetic Quality (0-2): 0",
        (2, 1, 0),
    ),
    (read_legacy, "Consistency: [2]\nRealism: [1]\nAesthetic Quality: [0]", (2, 1, 0)),
    (read_legacy, "Consistency - 2\nRealism - 1\nAesthetic Quality - 0", (2, 1, 0)),
    (read_legacy, '{\n"Consistency": 2,\n"Realism": 1,\n"Aesthetic Quality": 0,\n}', (2, 1, 0)),
    (
        read_legacy,
        "Consistency\uff1a\uff12\u3001Realism\uff1a\uff11\u3001Aesthetic Quality\uff1a\uff10",
        (2, 1, 0),
    ),
    (read_legacy, "Realism: 1\nConsistency: 2\nAesthetic Quality: 0", (2, 1, 0)),
    (
        read_legacy,
        "Consistency: 2 (the prompt asks for 3 cats, 3 are shown)\nRealism: 1 (mostly)\nAesthetic Quality: 0 (bad)",
        (2, 1, 0),
    ),
    (
        read_legacy,
        "1. **Consistency (0-2):** The image shows it well. Score: 2\n2. **Realism (0-2):** Fine. Score: 1\n3. **Aesthetic Quality (0-2):** Bad. Score: 0",
        None,
    ),
    (read_legacy, "Consistency: 1 -> 2\nRealism: 1\nAesthetic Quality: 0", None),
    (read_legacy, "Consistency: ~~1~~ 2\nRealism: 1\nAesthetic Quality: 0", (2, 1, 0)),
    (read_legacy, "Consistency: 2.0\nRealism: 1.0\nAesthetic Quality: 0.0", (2, 1, 0)),
    (
        read_legacy,
        "Consistency: 2; the realism is fine\nRealism: 1\nAesthetic Quality: 0",
        (2, 1, 0),
    ),
    (
        read_imgedit,
        "Brief reasoning: ok.\nPrompt Compliance: 5.\nVisual Naturalness: 4.\nPhysical & Detail Integrity: 3.",
        (5, 4, 3),
    ),
    (
        read_imgedit,
        "**Brief reasoning:** ok.\n**Prompt Compliance:** 5\n**Visual Naturalness:** 4\n**Physical & Detail Integrity:** 3",
        (5, 4, 3),
    ),
    (
        read_imgedit,
        "Prompt Compliance: 4-5\nVisual Naturalness: 4\nPhysical & Detail Integrity: 3",
        None,
    ),
    (
        read_imgedit,
        "Prompt Compliance: 0\nVisual Naturalness: 4\nPhysical & Detail Integrity: 3",
        None,
    ),
    (
        read_imgedit,
        "Brief reasoning: ok.\n\n- Prompt Compliance \u2013 5/5\n- Visual Naturalness \u2013 4/5\n- Physical & Detail Integrity \u2013 3/5",
        (5, 4, 3),
    ),
    (
        read_imgedit,
        "PROMPT COMPLIANCE: 5\nVISUAL NATURALNESS: 4\nPHYSICAL & DETAIL INTEGRITY: 3",
        (5, 4, 3),
    ),
    (
        read_imgedit,
        "Prompt Compliance: Five\nVisual Naturalness: 4\nPhysical & Detail Integrity: 3",
        None,
    ),
    (
        read_imgedit,
        "| Prompt Compliance | Visual Naturalness | Physical & Detail Integrity |\n|---|---|---|\n| 5 | 4 | 3 |",
        (5, 4, 3),
    ),
    (read_viescore, "Score: 7/10 and 8/10", None),
    (read_viescore, "[7, 8]\n[9, 9]", (9, 9)),
    (read_viescore, "The scores are [7, 8].", (7, 8)),
    (read_viescore, "score = [7, 8];", (7, 8)),
    (read_viescore, "output: [7, 8]", None),
    (read_viescore, '{"score": [7, 8], reasoning: "x"}', (7, 8)),
    (read_viescore, '{"score": [7,8],"reasoning":"a", }', (7, 8)),
    (read_viescore, '```json\n{"score": [7, 8]\n```', None),
    (read_viescore, '{"score": {"editing success": 7, "degree of overediting": 8}}', (7, 8)),
    (read_viescore, '{"score": [[7, 8]]}', None),
    (read_viescore, '{"score": [07, 8]}', (7, 8)),
    (read_viescore, '{"score":[7,8]}{"score":[9,9]}', (9, 9)),
    (read_verified, "Score: 1 (not 0)", 1),
    (read_verified, "Score: 1, since the score of 0 is for failures", 1),
]


@pytest.mark.parametrize(("read", "reply", "expected"), MORE)
def test_more_forms(read: Callable[[str], object], reply: str, expected: object):
    assert read(reply) == expected


ECHO = """Put the score in a list such that output score = [score1, score2].
First lets look at the first set of input as an example.
Editing instruction: What if the man had a hat?
Output:
||V^=^V||
{
"score" : [5, 10],
"reasoning" : "The hat exists."
}
||V^=^V||

Now evaluate the second set."""


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (ECHO, None), (ECHO + '\n{"score": [7, 8]}', (7, 8)), ('{"score" : [...], "reasoning" : "..."}', None),
        ('{\n"score" : \n"reasoning" : \n}', None),
        ('"{\\"score\\": [9, 9], \\"reasoning\\": \\"score: [1, 1]\\"}"', (9, 9)),
        ('{"score": [7, 8], "reasoning": "not \\"a\\", \\"score\\": [1, 1]"}', (7, 8)),
        ('{"score": [7, 8], "reasoning": ["score: [1, 1] is harsh", "x"]}', (7, 8)),
        ('{"score": [7, 8], "reasoning": {"success": "score: [1, 1]", "over": "y"}}', (7, 8)),
        ('{"score": [7, 8], "reasoning": "ends with \\\\"}', (7, 8)),
        ('{"score": [7, 8], "reasoning": "see http://x//y"}', (7, 8)),
        ('{"thinking": "score: [1, 1]", "score": [9, 9]}', (9, 9)), ("{&quot;score&quot;: [7, 8]}", (7, 8)),
        ("&lt;think&gt;score: [1, 1]", None), ("<b>Score:</b> [7, 8]", (7, 8)), ("Score out of 10: [7, 8]", (7, 8)),
        ("[Analysis] fine. [Score] [7, 8]", (7, 8)), ("[Analysis] fine.\nScore: [7, 8]", (7, 8)),
    ],
)  # fmt: skip
def test_what_a_judge_quotes_is_no_verdict(reply: str, expected: tuple | None):
    assert read_viescore(reply) == expected


IMGEDIT = (
    "Brief reasoning: the 2 stars are red.\nPrompt Compliance: 5\nVisual Naturalness: 4\n"
    "Physical & Detail Integrity: 3"
)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (IMGEDIT, (5, 4, 3)), (IMGEDIT.replace(": 3", ": 3/5"), (5, 4, 3)), (IMGEDIT.replace(": 3", ": 7"), None),
        (IMGEDIT.replace(": 3", ": 3/10"), None), (IMGEDIT.replace(": 3", ": 3.0"), (5, 4, 3)),
        (IMGEDIT.replace(": 3", ": 3.5"), None), (IMGEDIT.replace("\n", "  \r\n"), (5, 4, 3)),
        (IMGEDIT.replace("&", "and"), (5, 4, 3)), (IMGEDIT.replace("\n", "; "), (5, 4, 3)),
        (IMGEDIT + "\nOverall: 4", (5, 4, 3)), (IMGEDIT + "\n\nTotal: 12/15", (5, 4, 3)),
        ("<think>" + IMGEDIT, None), ("<think>" + IMGEDIT + "</think>" + IMGEDIT.replace("5", "1"), (1, 4, 3)),
        ('{"prompt_compliance": 5, "visual_naturalness": 4, "physical_detail_integrity": 3}', (5, 4, 3)),
        ("| Instruction Compliance | 5 |\n| Visual Seamlessness | 4 |\n| Physical Consistency | 3 |", (5, 4, 3)),
        ("Instruction Compliance: 5\nVisual Naturalness: 4\nPhysical Consistency & Fine Detail: 3", (5, 4, 3)),
        ("Object Identity: 5\nMask Precision: 4\nVisual Quality: 3", (5, 4, 3)),
        ("Faithfulness: 5\nCleanliness: 4\nLight: 3\nOverall: 4", (5, 4, 3)),
        ("Faithfulness: 5\nCleanliness: 4\nLight: 3\nColour: 4", None), ("Prompt Compliance: 5", None), ("", None),
    ],
)  # fmt: skip
def test_scores_of_edits(reply: str, expected: tuple | None):
    assert read_imgedit(reply) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("score1: 7\nscore2: 8", (7.0, 8.0)), ('{"score1": 7, "score2": 8}', (7.0, 8.0)),
        ("Naturalness: 7\nArtifacts: 8", (7.0, 8.0)), ("score1: 7\nscore: 8", None), ("naturalness: 7", None),
        ("| Score 1 | Score 2 |\n|---|---|\n| 7 | 8 |", (7.0, 8.0)),
        ("**Editing success:** 7/10\n**Degree of overediting:** 8/10", (7.0, 8.0)),
    ],
)  # fmt: skip
def test_pairs_by_name(reply: str, expected: tuple | None):
    assert read_viescore(reply) == expected


def test_one_reader_serves_rewards_too():
    criteria = list(DRAWING.criteria)
    scores = {"objects": 0.8, "attributes": 1.0, "relations": 0.5}
    for reply in (
        "<think>objects: 1, attributes: 1, relations: 1</think>Objects: 8\nAttributes: 10\nRelations: 5",
        '{"objects": "8/10", "attributes": "10 (all)", "relations": 5.0,}',
        "| objects | attributes | relations |\n|---|---|---|\n| 8 | 10 | 5 |",
    ):
        assert read_verdict(reply, criteria) == scores
        assert read_verdict("<think>" + reply.replace("</think>", ""), criteria) is None


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("yes", "yes"), ("<think>a</think>b", "b"), ("a</think>b</THINK>c", "c"), ("<think>a", None),
        ("b<think>a", None), ("<|think|>a<|/think|>b", "b"), ("<|think|>a", None), ("[THINK]a[/THINK]b", "b"),
        ("<seed:think>a</seed:think>b", "b"), ("<reasoning>a</reasoning>b", "b"), ("a</think>", None), ("", None),
        ("<|channel>thought a<channel|>b", "b"), ("<|channel|>analysis<|message|>a", None), ("a </thin", None),
        ("a" * LONGEST, "a" * LONGEST), ("a" * (LONGEST + 1), None), ("a" * (LONGEST + 1) + "</think>b", "b"),
        ("\uff11\uff0e\u0665", "1.5"), ("\u25c1think\u25b7a\u25c1/think\u25b7b", "b"),
    ],
)  # fmt: skip
def test_the_answer_after_a_thought(reply: str, answer: str | None):
    assert final_answer(reply) == answer


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("4", 4.0),
        ("4/5", 4.0),
        ("4 out of 5", 4.0),
        ("[4]", 4.0),
        ("8/10", None),
        ("4 5", None),
        ("4 cats", None),
    ],
)
def test_a_bare_number_is_the_score_of_one_criterion(reply: str, expected: float | None):
    scores = read_scores(reply, [["Quality"]], Scale(1, 5))
    assert scores == (None if expected is None else (expected,))
    assert read_scores(reply, [["Quality"], ["Style"]], Scale(1, 5)) is None


# Forms, wrapping and drafts, in all combinations

Scores = tuple[int, int, int]
LINES = "Consistency: {}\nRealism: {}\nAesthetic Quality: {}"
FORMS = (
    LINES, LINES.replace("\n", ", "), LINES.replace("\n", " | "), LINES.upper(), LINES.lower(), LINES.replace(": ", ":"),
    LINES.replace(": ", " = "), LINES.replace(":", " -"), LINES.replace("{}", "{}.0"), LINES.replace("{}", "{}/2"),
    LINES.replace("{}", "{} out of 2"), LINES.replace("{}", "{} (mostly)"), LINES.replace("{}", "**{}**"),
    LINES.replace("{}", "{}."), LINES.replace("{}", "{} points"), LINES.replace(": ", "\n"),
    LINES.replace(": ", ":\n\n"), LINES.replace(": ", "\uff1a"), LINES.replace(":", " (0-2):"),
    LINES.replace(":", " score:"), LINES.replace(": ", " is "), LINES.replace("{}", "`{}`"),
    LINES.replace("{}", "{} - a good picture of 3 cats"), LINES.replace("{}", "{} because the cat is black"),
    "- " + LINES.replace("\n", "\n- "), "**" + LINES.replace(":", ":**").replace("\n", "\n**"),
    "### " + LINES.replace("\n", "\n### "), "1. Consistency: {}\n2. Realism: {}\n3. Aesthetic Quality: {}",
    "| Consistency | {} |\n| Realism | {} |\n| Aesthetic Quality | {} |",
    "| Name | Score | Why |\n|:--|--:|---|\n| Consistency | {} | 2 cats |\n| Realism | {} | - |\n| Aesthetic Quality | {} | |",
    "| Consistency | Realism | Aesthetic Quality |\n|---|---|---|\n| {} | {} | {} |",
    "<consistency>{}</consistency>\n<realism>{}</realism>\n<aesthetic_quality>{}</aesthetic_quality>",
)  # fmt: skip
JSON_FORMS = (
    '{{"Consistency": {}, "Realism": {}, "Aesthetic Quality": {}}}',
    '{{\n  "consistency": {},\n  "realism": {},\n  "aesthetic_quality": {},\n}}',
    "{{'consistency': {}, 'realism': {}, 'aesthetic_quality': {}, 'reasoning': 'it doesn't show Realism: 0'}}",
    '{{"Consistency": "{}", "Realism": "{}/2", "Aesthetic Quality": "{} (mostly)"}}',
    '{{"reasoning": "Consistency: 0, a "bad" one", "Consistency": {}, "Realism": {}, "Aesthetic Quality": {}}}',
    '{{"Consistency": {{"score": {}, "reason": "1 cat"}}, "Realism": {{"score": {}}}, "Aesthetic Quality": {{"score": {}}}}}',
    '{{"scores": {{"Consistency": {}, // fine\n "Realism": {}, /* good */ "Aesthetic Quality": {}}}, "reasoning": "Realism: 0"}}',
    "{{consistency: {}, realism: {}, aesthetic_quality: {}}}",
)  # fmt: skip
WRAPS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: f"Here is my verdict:\n\n{text}\n",
    lambda text: f"```\n{text}\n```",
    lambda text: f"The picture shows 2 cats, as the prompt asks.\n\n{text}\n\nThe cats are black.",
    lambda text: f"<answer>\n{text}\n</answer>",
    lambda text: text.replace("\n", "\r\n"),
    lambda text: f"<|begin_of_box|>{text}<|end_of_box|>",
    lambda text: f"{text}<|im_end|>",
    lambda text: "".join(chr(ord(c) + 0xFEE0) if c in "0123456789:{}" else c for c in text),
)
THOUGHTS: tuple[Callable[[str], str], ...] = (
    lambda draft: "",
    lambda draft: f"<think>\n{draft}\n</think>\n",
    lambda draft: f"{draft}\n</think>\n\n",
    lambda draft: f"<thinking>Say {draft}? No.</thinking>",
    lambda draft: f"[THINK]{draft}[/THINK]",
    lambda draft: f"<think>\n{draft}</think>\n<think>\n{draft}\n</think>\n",
    lambda draft: f"First draft:\n\n{draft}\n\nThat is too strict.\n\n",
    lambda draft: f"{draft}\n\nWait, that is wrong. Once more:\n\n",
)
three = st.tuples(*[st.integers(0, 2)] * 3)


@given(three, three, st.sampled_from(FORMS + JSON_FORMS), st.sampled_from(FORMS + JSON_FORMS),
       st.sampled_from(WRAPS), st.sampled_from(THOUGHTS))  # fmt: skip
@settings(max_examples=600, deadline=None, derandomize=True)
def test_the_last_verdict_is_read_in_every_form(
    scores: Scores, drafted: Scores, form: str, draft_form: str, wrap: Callable[[str], str],
    thought: Callable[[str], str],
):  # fmt: skip
    reply = thought(draft_form.format(*drafted)) + wrap(form.format(*scores))
    assert read_legacy(reply) == scores


@given(three, st.sampled_from(JSON_FORMS), st.data())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_json_that_was_cut_is_missing(scores: Scores, form: str, data: st.DataObject):
    text = form.format(*scores)
    assert read_legacy(text[: data.draw(st.integers(0, len(text) - 1))]) is None


@given(three, st.sampled_from(FORMS + JSON_FORMS), st.sampled_from(WRAPS))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_thought_that_was_cut_is_missing(scores: Scores, form: str, wrap: Callable[[str], str]):
    assert read_legacy("<think>\n" + wrap(form.format(*scores))) is None


@given(three, st.sampled_from(FORMS + JSON_FORMS), st.sampled_from(WRAPS), st.integers(0, 2),
       st.sampled_from(("3", "10", "-1", "1.5", "0-1", "1 to 2", "0 or 1", "1?", "1%", "1, maybe 2", "1+", "one", "N/A",
                        "1/5", "<0-2>", "true", "?", "")))  # fmt: skip
@settings(max_examples=400, deadline=None, derandomize=True)
def test_one_bad_number_makes_a_verdict_missing(
    scores: Scores, form: str, wrap: Callable[[str], str], index: int, bad: str
):
    values: list[object] = list(scores)
    values[index] = bad
    assert read_legacy(wrap(form.format(*values))) is None


@given(st.text(alphabet="score: []{}()\"'0189,./|-*\n<>think", max_size=300))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_text_is_an_error(text: str):
    """Whatever is read lies in its scale."""
    pair, binary = read_viescore(text), read_verified(text)
    assert pair is None or all(0 <= score <= 10 for score in pair)
    assert binary in (None, 0, 1)


@pytest.mark.parametrize(
    "piece",
    [
        "[",
        "{",
        "|",
        '"a": "',
        "score: 1 ",
        "score (",
        "<del>",
        "/*",
        "\n",
        "[1, ",
        "</think>",
        "\\boxed{",
        "9",
    ],
)
def test_endless_pieces_are_missing(piece: str):
    reply = "score: " + piece * (LONGEST // len(piece) - 10)
    assert read_viescore(reply) is None and read_imgedit(reply) is None
    assert re.search("thin", reply) or read_legacy(reply) is None


PAIR_FORMS = (
    '{{"score": [{}, {}], "reasoning": "score: [0, 0] would be harsh"}}', '{{"score" : [{}, {}]}}',
    "{{'score': [{}, {}], 'reasoning': 'it doesn't fit'}}", '{{"score": ["{}", "{}/10"],}}',
    '{{"reasoning": "a "good" edit", "score": [{} , {}]}}', '{{\n"score": [\n{},\n{}\n]\n}}', "Score: [{}, {}]",
    '||V^=^V||\n{{\n"score" : [{}, {}],\n"reasoning" : "fine"\n}}\n||V^=^V||', "**Score:** [{}, {}]", "[{}, {}]",
    "output score = [{}, {}]", "| score | [{}, {}] |", '{{"score": [{} (mostly), {}.0]}}', "score1: {}\nscore2: {}",
)  # fmt: skip
pair = st.tuples(st.integers(0, 10), st.integers(0, 10))


@given(pair, pair, st.sampled_from(PAIR_FORMS), st.sampled_from(PAIR_FORMS[:-1]), st.sampled_from(WRAPS),
       st.sampled_from(THOUGHTS))  # fmt: skip
@settings(max_examples=400, deadline=None, derandomize=True)
def test_the_last_pair_is_read_in_every_form(
    scores: tuple[int, int], drafted: tuple[int, int], form: str, draft_form: str,
    wrap: Callable[[str], str], thought: Callable[[str], str],
):  # fmt: skip
    draft = thought(draft_form.format(*drafted))
    if form == PAIR_FORMS[-1] and final_answer(draft + ".") != ".":
        draft = ""  # scores by name are read only where no list is given
    assert read_viescore(draft + wrap(form.format(*scores))) == scores


@given(pair, st.sampled_from(PAIR_FORMS), st.sampled_from(("11", "-1", "7-8", "7 or 8", "true", "null", "?", "7%", "")),
       st.booleans())  # fmt: skip
@settings(max_examples=200, deadline=None, derandomize=True)
def test_one_bad_number_makes_a_pair_missing(
    scores: tuple[int, int], form: str, bad: str, first: bool
):
    assert (
        read_viescore(form.format(bad if first else scores[0], scores[1] if first else bad)) is None
    )
