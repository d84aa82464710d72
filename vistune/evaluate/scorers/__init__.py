"""Scorers: what an answer is worth by the official definition of its benchmark, one file each.

Each file has the arithmetic as pure functions of text, then `results(doc, answers)`, which lm-eval calls for every
document (`process_results` in the task's YAML), and the aggregations that are no plain mean. Where tools disagree the
file follows the benchmark's own script and its docstring names the differences. `make golden` compares the functions
with what the official scripts return.
"""
