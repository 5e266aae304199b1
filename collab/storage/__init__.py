"""What is on this device's disk."""
