"""Scores that others have published, to stand beside ours; as their papers state them."""

PAPER = "arXiv 2606.11188, table of results"
PUBLISHED: dict[str, dict[str, float]] = {
    "wise": {"ARM": 0.50, "ARM-RL": 0.56, "Janus-Pro-7B": 0.35, "Emu3-8B": 0.39, "BAGEL": 0.52},
    "dpg": {"ARM": 0.8448, "ARM-RL": 0.8600, "Janus-Pro-7B": 0.8419, "Emu3-8B": 0.8060},
    "gedit": {"ARM": 5.75, "ARM-RL": 6.68, "BAGEL": 6.52, "Step1X-Edit": 6.70},
    "pope-random": {"ARM (all splits)": 0.873, "ARM-RL (all splits)": 0.871},
}
"""Benchmark -> system -> score in the unit of our reports. The judges behind them are the papers' own
and mostly unnamed in version, so they are a rough neighbourhood and no ranking.
"""
