"""The sections of docs/benchmarks.md: each measures, and tells what it found with the floors that are asked of it."""
