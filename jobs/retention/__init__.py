"""Storage for what comes, and room where something may go."""
