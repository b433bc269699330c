"""Webhooks in: a receiver that faces the internet, and what a job reads of the deliveries that it kept."""
