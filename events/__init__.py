"""The contract: Shopify payloads, the records on our topics, money, instants, keys and codecs. No I/O."""
