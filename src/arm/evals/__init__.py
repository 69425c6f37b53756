"""Benchmarks: each turns a model into scores with intervals."""
