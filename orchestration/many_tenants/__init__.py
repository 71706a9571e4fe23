"""Reads the results of many tenants, each in a process of its own: docs/many-tenants.md."""
