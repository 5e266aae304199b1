"""What an adversary sends: generated from a seed, kept when it broke something."""
