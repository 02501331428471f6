"""Notices: what happened in a shop, told to its integrators by signed webhooks (Standard Webhooks)."""
