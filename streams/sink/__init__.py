"""The history sink: every topic into the database, each record once."""
