"""What the claims of speed rest on: each runs by itself and prints ratios measured in one run."""
