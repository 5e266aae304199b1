"""``python -m collab_server``: the same as ``collab serve``."""

from collab.cli import serve_main

if __name__ == "__main__":
    serve_main()
