"""``collab demo``: the ``notebook``, and with ``--headless`` the story of two programs.

They edit one room, offline and on, are killed, and come out identical.

``run`` is the command and ``story`` what it tells: clients (``player``) replay real ``traces`` into
one room of a relay, each a process on the ``stage`` (``processes``), through links that can be cut
(``link``), at moments that a seed chose (``plan``), and send each other messages meanwhile
(``talk``). ``board`` is what is known of everybody, ``display`` shows it, and ``verdict`` says
whether the outcome is what was typed and said.
"""
