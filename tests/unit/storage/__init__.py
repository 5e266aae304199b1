"""collab.storage, module by module."""
