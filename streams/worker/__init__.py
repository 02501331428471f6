"""The worker: logs through the folds into tables and results."""
