"""What every provider must fulfil, asked of each against its simulator. See docs/providers.md."""
