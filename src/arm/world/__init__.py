"""The built-in procedural world: scenes, renderer, language, edits, facts, and a reader of pixels.

Everything a picture says is known exactly, so training data is free and every score is exact.
"""
