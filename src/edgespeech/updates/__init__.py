"""Model updates: small files that turn one packed model into another, bit for bit, and what a device does with them."""
