"""A text editor for people at a terminal: ``collab edit``.

``binding`` keeps what is shown level with the room's text, and ``people`` says who is here and
where, both without a screen. ``lines`` and ``area`` show the text, ``carets`` others' places in it,
``chat_panel`` the chat and ``bars`` how things stand; ``app`` puts them together, ``run`` opens the
room for it. The words and the conversation are those of ``collab.terminal``. Only here Textual is
imported, and only when the command runs.
"""
