"""Telling people and programs what happened: as they wish it, once, and not in the middle of the night."""
