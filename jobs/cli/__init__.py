"""The `fleet-jobs` command."""
