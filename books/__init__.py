"""What is kept in PostgreSQL and is nobody's stream: tables, keys, programs, dead letters, privacy."""
