"""Measure wolf_async beside the limits and its peers: ``python -m benchmarks`` (extra ``bench``).

Every figure is a ratio of two things measured side by side: a machine that others share moves
absolute times by a factor of two, and ratios by a few per cent.
"""
