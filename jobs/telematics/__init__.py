"""Telematics: what vehicles report, brought in by connection, every few minutes."""
