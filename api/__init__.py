"""FastAPI: webhooks in, results out."""
