"""The command: what a person types, on top of every room."""
