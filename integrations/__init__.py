"""The outside world: providers, their protocols and their faults. Knows no database and no job."""
