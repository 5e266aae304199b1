"""A chat for people at a terminal: ``collab chat``, and what ``collab status`` prints.

``transcript`` and ``wording`` say what there is to see, without I/O; ``conversation`` ties a
room's chat to them and carries out ``commands``; ``screen`` shows it redrawn in place, ``plain``
in lines. Everything that others wrote goes through ``safe`` first.
"""
