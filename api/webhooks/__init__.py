"""The front door: Shopify's webhooks in."""
