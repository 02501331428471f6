"""What is kept per key: pure folds, and in one file their Faust tables. The folds import no I/O."""
