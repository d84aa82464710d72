"""Readers of published benchmarks: local files in the layout their authors publish, as lm-eval documents.

A task file in eval/tasks names one of these functions as its `custom_dataset`; lm-eval calls it with the task's
`dataset_kwargs` and the run's settings (`data`, `seed`, `limit`). A benchmark is read whole or not at all: leaving out
a bad row would change the score, so any defect raises VistuneError.
"""
