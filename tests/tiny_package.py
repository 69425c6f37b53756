"""A package in the layout of @iconify/json with sets that are drawn here: things of random corners."""

import json
from pathlib import Path
from typing import Any

import numpy as np

THINGS = (
    "bell book boat bottle bridge bucket cactus camera candle carrot chair clover cloud comb crown drum fan flask "
    "fork glove guitar hammer hat kite ladder lamp leaf lemon map mug nail oven piano plug pot rope"
).split()
PLUS = '<path fill="currentColor" d="M17 1h2v3h3v2h-3v3h-2V6h-3V4h3z"/>'
MINUS = '<path fill="currentColor" d="M14 4h8v2h-8z"/>'
SLASH = '<path stroke="currentColor" stroke-width="2" d="M2 2L22 22"/>'
RING = '<circle cx="12" cy="12" r="11.5" fill="none" stroke="currentColor" stroke-width="1"/>'


def body(thing: str, style: str, filled: bool, inset: float = 0.0) -> str:
    """A polygon that depends on the thing, and a little on the style."""
    rng = np.random.default_rng([ord(c) for c in thing])
    hand = np.random.default_rng([ord(c) for c in style])
    radius = rng.uniform(3.5, 9.0, 9) + hand.uniform(-0.5, 0.5, 9)
    angle = 2 * np.pi * np.arange(9) / 9
    scale = 1 - inset
    points = np.stack([11 + scale * radius * np.cos(angle), 13 + scale * radius * np.sin(angle)], 1)
    text = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    paint = 'fill="currentColor"' if filled else 'fill="none" stroke="currentColor"'
    return f'<polygon points="{text}" {paint} stroke-width="1.5"/>'


def icons(style: str, things: list[str]) -> dict[str, dict[str, Any]]:
    made = {}
    for thing in things:
        line = body(thing, style, False)
        made[thing] = line
        made[f"{thing}-fill"] = body(thing, style, True)
        made[f"{thing}-plus"] = line + PLUS
        made[f"{thing}-minus"] = line + MINUS
        made[f"{thing}-off"] = line + SLASH
        made[f"{thing}-circle"] = body(thing, style, True, 0.2) + RING
    return {name: {"body": drawn} for name, drawn in made.items()}


def entry(name: str, spdx: str = "MIT", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "author": {"name": f"{name}'s author", "url": "https://example.org/a"},
        "license": {"title": spdx, "spdx": spdx, "url": "https://example.org/licence"},
        "category": "UI 24px",
        "palette": False,
    } | more


def write_package(folder: Path) -> Path:
    """alpha, and beta with the same drawings, gamma with a hand of its own, all MIT; closed, logos and secret may not be used."""
    package = folder / "package"
    (package / "json").mkdir(parents=True)
    things = list(THINGS)
    sets = {
        "alpha": icons("a", things),
        "beta": icons("a", things[:12]),
        "gamma": icons("g", things),
    }
    sets["alpha"]["hide"] = {"body": body("hide", "a", True), "hidden": True}
    sets["alpha"]["wide"] = {"body": body("wide", "a", True), "width": 48}
    sets["alpha"]["spy"] = {"body": '<image href="file:///etc/passwd"/>'}
    sets["alpha"]["github"] = {"body": body("github", "a", True)}
    sets["alpha"]["letter-a"] = {"body": body("letter", "a", True)}
    sets |= {name: icons(name[0], things[:2]) for name in ("closed", "logos", "secret")}
    entries = {name: entry(name.title()) for name in ("alpha", "beta", "gamma")}
    entries["closed"] = entry("Closed", "CC-BY-NC-4.0")
    entries["logos"] = entry("Logos", category="Logos")
    entries["secret"] = entry("Secret", hidden=True)
    (package / "collections.json").write_text(json.dumps(entries))
    (package / "package.json").write_text(json.dumps({"version": "1.0.0"}))
    for name, drawn in sets.items():
        data: dict[str, Any] = {"prefix": name, "icons": drawn, "width": 24, "height": 24}
        data["aliases"] = {"vessel": {"parent": "boat"}, "turned": {"parent": "boat", "rotate": 1}}
        data["categories"] = {"Tools": [t for t in ("hammer", "nail", "rope") if t in drawn]}
        (package / "json" / f"{name}.json").write_text(json.dumps(data))
    return package
