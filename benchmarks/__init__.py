"""How near wolf_async is to the limit, and to its peers: ``python -m benchmarks`` (extra ``bench``).

Every figure is a ratio of two things measured side by side in one run: a machine that is shared by others moves
absolute times by a factor of two, and ratios by a few per cent. Modules named after what they measure hold the
parts; `harness` measures, `subjects` and `peers` are what is measured, `report`, `plot` and `compare` show it.
"""
