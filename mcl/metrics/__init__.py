"""Judgement in numbers: pure functions from a `Result` or its returns to floats."""
