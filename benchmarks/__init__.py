"""What `python -m benchmarks` measures: every case is a function `case(sizes) -> {name: figure}`, a file a concept.

A figure is `{value, unit, ratio_to, ratio}` (see `clock.figure`); `runner.py` puts them together in bench.json.
"""
