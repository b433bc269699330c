"""Fences: what shape they have, which fixes they cover, and what follows from it."""
