"""The runner, its metrics, its records: how a recogniser is measured."""
