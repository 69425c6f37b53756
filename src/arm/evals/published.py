"""Scores that others have published, to stand beside ours; as their sources state them."""

from collections.abc import Mapping
from dataclasses import dataclass

NOT_STATED = "not stated"
PAPER = "ARM, arXiv 2606.11188, and its repository's tables"
DEEPGEN = "DeepGen README, 2026-02"
LONGCAT = "LongCat-Image README"
BAGEL = "BAGEL README"
WISE_BOARD = "WISE leaderboard, 2026-04-25"
IMGEDIT_BOARD = "ImgEdit leaderboard"
DPG_JUDGE = "mPLUG-large, by DPG's protocol"
POPE = ("pope", "pope-random", "pope-popular", "pope-adversarial")
POPE_NOTE = (
    "Their sources do not say which measure they give; the usual one, as LLaVA's, is the mean F1 of the three splits. "
    "This run's score is its accuracy, and its F1 stands beside it."
)


@dataclass(frozen=True)
class Row:
    """One system on one benchmark. scores: by measure, in the unit of our reports; "overall" is the
    headline, the others are named as in a report's details.
    """

    system: str
    scores: Mapping[str, float]
    source: str
    judge: str = NOT_STATED


def _overall(source: str, scores: Mapping[str, float], judge: str = NOT_STATED) -> list[Row]:
    return [Row(system, {"overall": value}, source, judge) for system, value in scores.items()]


def _edits(source: str, scores: Mapping[str, tuple[float, float, float]]) -> list[Row]:
    names = ("sc", "pq", "overall")
    return [
        Row(system, dict(zip(names, values, strict=True)), source)
        for system, values in scores.items()
    ]


def _percent(scores: Mapping[str, float]) -> dict[str, float]:
    return {system: round(value / 100, 6) for system, value in scores.items()}


_GENEVAL = [
    *_overall(
        PAPER, {"ARM": 0.79, "ARM-RL": 0.86, "Janus-Pro-7B": 0.80, "Emu3-8B": 0.54, "BAGEL": 0.82}
    ),
    *_overall(
        DEEPGEN,
        {
            "OmniGen2": 0.80, "X-Omni": 0.83, "Lumina-DiMOO": 0.88, "HunyuanImage-3.0": 0.72,
            "Qwen-Image": 0.87, "LongCat-Image": 0.87, "Z-Image-Turbo": 0.84,
            "DeepGen-1.0-SFT": 0.86, "DeepGen-1.0-RL": 0.87,
        },
    ),
    *_overall(LONGCAT, {"FLUX.1-dev": 0.66, "GPT-Image-1-High": 0.84, "Seedream-4.0": 0.84}),
]  # fmt: skip
_DPG = [
    *_overall(
        PAPER,
        _percent({"ARM": 84.48, "ARM-RL": 86.00, "Janus-Pro-7B": 84.19, "Emu3-8B": 80.60}),
        DPG_JUDGE,
    ),
    *_overall(
        DEEPGEN,
        _percent({
            "OmniGen2": 83.57, "BAGEL": 85.10, "X-Omni": 87.65, "Lumina-DiMOO": 86.04,
            "HunyuanImage-3.0": 86.10, "Qwen-Image": 88.32, "LongCat-Image": 86.80,
            "Z-Image-Turbo": 85.15, "GLM-Image": 84.78, "DeepGen-1.0-SFT": 87.05,
            "DeepGen-1.0-RL": 87.90,
        }),
        DPG_JUDGE,
    ),
    *_overall(
        LONGCAT,
        _percent({"FLUX.1-dev": 83.84, "GPT-Image-1-High": 85.15, "Seedream-4.0": 88.25}),
        DPG_JUDGE,
    ),
]  # fmt: skip
_WISE = [
    *_overall(
        PAPER, {"ARM": 0.50, "ARM-RL": 0.56, "Janus-Pro-7B": 0.35, "Emu3-8B": 0.39, "BAGEL": 0.52}
    ),
    *_overall(
        DEEPGEN,
        {
            "OmniGen2": 0.47, "BAGEL, thinking first": 0.70, "HunyuanImage-3.0": 0.57,
            "Qwen-Image": 0.62, "LongCat-Image": 0.65, "DeepGen-1.0-SFT": 0.72,
            "DeepGen-1.0-RL": 0.73,
        },
    ),
    *_overall(LONGCAT, {"FLUX.1-dev": 0.50, "Seedream-4.0": 0.78}),
]  # fmt: skip
_WISE_VERIFIED = _overall(
    WISE_BOARD,
    {
        "NanoBanana-Pro": 0.876, "GPT-Image-1.5": 0.825, "BAGEL, thinking first": 0.628,
        "DeepGen-1.0": 0.570, "FLUX.2-dev": 0.565, "Qwen-Image": 0.510, "HunyuanImage-3.0": 0.435,
        "BAGEL": 0.352, "Janus-Pro-7B": 0.334,
    },
)  # fmt: skip
_GEDIT = [
    *_edits(
        PAPER,
        {
            "ARM": (5.73, 7.67, 5.75), "ARM-RL": (6.85, 7.68, 6.68), "BAGEL": (7.36, 6.83, 6.52),
            "UniWorld-v1": (4.93, 7.43, 4.85), "Step1X-Edit": (7.09, 6.76, 6.70),
        },
    ),
    *_edits(BAGEL, {"Gemini-2.0": (6.73, 6.61, 6.32), "GPT-4o": (7.85, 7.62, 7.53)}),
    *_edits(
        LONGCAT,
        {
            "FLUX.1-Kontext-Pro": (7.02, 7.60, 6.56), "Nano-Banana": (7.86, 8.33, 7.54),
            "Seedream-4.0": (8.24, 8.08, 7.68), "FLUX.1-Kontext-dev": (6.52, 7.38, 6.00),
            "Step1X-Edit, newer": (7.66, 7.35, 6.97), "Qwen-Image-Edit": (8.00, 7.86, 7.56),
            "Qwen-Image-Edit-2509": (8.15, 7.86, 7.54), "LongCat-Image-Edit": (8.18, 8.00, 7.64),
        },
    ),
    *_overall(DEEPGEN, {"DeepGen-SFT": 7.12, "DeepGen-RL": 7.17, "Mammoth2": 6.60}),
]  # fmt: skip
_IMGEDIT = _overall(
    IMGEDIT_BOARD,
    {
        "MagicBrush": 1.83, "Instruct-Pix2Pix": 1.88, "AnyEdit": 2.45, "UltraEdit": 2.70,
        "ICEdit": 3.05, "Step1X-Edit": 3.06, "UniWorld-V1": 3.26, "BAGEL": 3.42, "OmniGen2": 3.44,
        "FLUX.1-Kontext-dev": 3.71, "Ovis-U1": 3.97, "GPT-4o-Image": 4.20,
    },
    "GPT-4.1",
)  # fmt: skip
_POPE = _overall(
    f"{PAPER}; all three splits together, measure not stated",
    _percent({
        "ARM": 87.3, "ARM-RL": 87.1, "Janus-Pro-7B": 87.4, "Emu3-8B": 85.2, "VILA-U": 85.8,
        "UniTok": 83.2, "Show-o": 80.0, "LWM": 75.2,
    }),
    "none",
)  # fmt: skip
_UNDERSTANDING = {
    "mmbench": {"ARM": 80.7, "Janus-Pro-7B": 79.2, "Emu3-8B": 58.5, "BAGEL": 85.0},
    "mmmu": {
        "ARM": 40.2, "ARM-RL": 41.0, "Janus-Pro-7B": 41.0, "Emu3-8B": 31.6, "BAGEL": 55.3,
        "Show-o": 26.7, "Chameleon": 22.4,
    },
    "gqa": {
        "ARM": 59.8, "Janus-Pro-7B": 62.0, "Emu3-8B": 60.3, "VILA-U": 60.8, "UniTok": 61.1,
        "Show-o": 58.0, "LWM": 44.8,
    },
    "vqav2": {
        "ARM": 76.1, "Emu3-8B": 75.1, "VILA-U": 79.4, "UniTok": 76.8, "Show-o": 69.4,
        "Chameleon": 69.6, "LWM": 55.8,
    },
    "seed": {"ARM": 73.1, "Janus-Pro-7B": 72.1, "Emu3-8B": 68.2, "VILA-U": 59.0},
}  # fmt: skip
_MME = [
    Row(system, {"perception": value}, PAPER, "none")
    for system, value in {
        "ARM": 1463.0, "Janus-Pro-7B": 1567.0, "BAGEL": 1687.0, "VILA-U": 1402.0, "UniTok": 1448.0,
        "Show-o": 1097.0,
    }.items()
]  # fmt: skip


def published_rows(benchmark: str) -> list[Row]:
    """What others reached on a benchmark, none for one that has no row here."""
    return {
        "geneval": _GENEVAL,
        "dpg": _DPG,
        "wise": _WISE,
        "wise-verified": _WISE_VERIFIED,
        "gedit": _GEDIT,
        "imgedit": _IMGEDIT,
        **dict.fromkeys(POPE, _POPE),
        "mme": _MME,
        **{name: _overall(PAPER, _percent(v), "none") for name, v in _UNDERSTANDING.items()},
        "seed-letters": _overall(PAPER, _percent(_UNDERSTANDING["seed"]), "none"),
    }.get(benchmark, [])


def published_note(benchmark: str) -> str:
    """What has to be known of a benchmark's rows before they are compared, "" where nothing has."""
    return POPE_NOTE if benchmark in POPE else ""


def own_measures(benchmark: str) -> tuple[str, ...]:
    """Measures of our reports that belong beside the rows though no row states them."""
    return ("f1",) if benchmark in POPE else ()


def highest(benchmark: str) -> float:
    """The best score that a benchmark can give, for the axes of plots."""
    return {"gedit": 10.0, "imgedit": 5.0, "mme": 200.0}.get(benchmark, 1.0)
