"""The command: what a person types, on top of every room."""

import gc

# A command loads a thousand modules, and nothing of them is garbage: at the collector's default pace a start takes up
# to a tenth longer. Whatever runs on goes at this pace too, or at one of its own.
gc.set_threshold(50_000, 20, 50)
