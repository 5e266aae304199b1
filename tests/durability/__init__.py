"""What survives: kills, full disks, damage. Against real processes and real files."""
