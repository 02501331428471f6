"""Fulfilment: the discount in the store for each accepted redemption, made once, and its outcome told."""
