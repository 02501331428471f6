"""`make bench`: LoyalNest measured, beside a plain Faust agent and Quix Streams, into docs/benchmarks.md."""
