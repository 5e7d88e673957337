"""One file per measured system. Every Recogniser subclass in here is found by `harness.discovery`."""
