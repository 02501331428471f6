"""Server-sent events: results as they change."""
