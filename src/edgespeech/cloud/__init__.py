"""The cloud side: server, client, codec, and the link between device and cloud."""
