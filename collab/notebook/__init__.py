"""A notebook as a room's document: its shape, ``.ipynb`` in and out, a kernel that takes part.

``document`` needs nothing but collab; the others need ``pip install 'collab-sync[notebook]'``.
"""
