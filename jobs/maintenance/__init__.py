"""Maintenance: which services are due, every morning of each tenant."""
