"""Notebooks for tests: as files have them, valid for nbformat, of all that a file may hold."""

from __future__ import annotations

import json
from typing import Any

import nbformat
from hypothesis import strategies as st

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)

REAL: dict[str, Any] = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "version": "3.11.7"},
        "someone": {"nobody": ["here", {"knows": 1.5}], "überall": None},
    },
    "cells": [
        {
            "id": "title",
            "cell_type": "markdown",
            "metadata": {"tags": ["intro"], "slideshow": {"slide_type": "slide"}},
            "source": "# Dünnfilm 薄膜\n\n![here](attachment:dot.png)",
            "attachments": {"dot.png": {"image/png": PNG}},
        },
        {
            "id": "load",
            "cell_type": "code",
            "metadata": {"collapsed": False, "x-vendor": {"deep": [[1], [2]]}},
            "source": "print('grün 📊')\nfigure",
            "execution_count": 3,
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": "grün 📊\n"},
                {"output_type": "stream", "name": "stderr", "text": "careful\n"},
                {
                    "output_type": "execute_result",
                    "execution_count": 3,
                    "metadata": {"image/png": {"width": 1}},
                    "data": {
                        "text/plain": "<Figure>",
                        "image/png": PNG,
                        "application/vnd.nobody.knows+json": {"a": [1, 2.5, None, True]},
                    },
                },
                {
                    "output_type": "error",
                    "ename": "ValueError",
                    "evalue": "名",
                    "traceback": ["line 1", "ValueError: 名"],
                },
            ],
        },
        {
            "id": "raw",
            "cell_type": "raw",
            "metadata": {"format": "text/latex"},
            "source": "\\alpha",
        },
        {
            "id": "empty",
            "cell_type": "code",
            "metadata": {},
            "source": "",
            "execution_count": None,
            "outputs": [],
        },
    ],
}
"""One as people have them."""

# What a JSON file can say in one way only: a whole float reads back as an int.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer())
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
# nbformat has rules for these.
_RULED = frozenset(
    {"kernelspec", "language_info", "orig_nbformat", "title", "authors", "jupyter", "execution",
     "collapsed", "scrolled", "name", "tags", "format"}
)  # fmt: skip


def _is_free(key: str) -> bool:
    return key not in _RULED


metadata = st.dictionaries(texts.filter(_is_free), values, max_size=3)
mime_bundles = st.dictionaries(
    st.sampled_from(["text/plain", "text/html", "image/png", "application/x-nobody"]), texts
) | st.fixed_dictionaries({"application/vnd.nobody.knows+json": values})
counts = st.none() | st.integers(0, 10_000)
outputs = st.one_of(
    st.fixed_dictionaries(
        {
            "output_type": st.just("stream"),
            "name": st.sampled_from(["stdout", "stderr"]),
            "text": texts,
        }
    ),
    st.fixed_dictionaries(
        {"output_type": st.just("display_data"), "data": mime_bundles, "metadata": metadata}
    ),
    st.fixed_dictionaries(
        {
            "output_type": st.just("execute_result"),
            "data": mime_bundles,
            "metadata": metadata,
            "execution_count": counts,
        }
    ),
    st.fixed_dictionaries(
        {
            "output_type": st.just("error"),
            "ename": texts,
            "evalue": texts,
            "traceback": st.lists(texts, max_size=3),
        }
    ),
)
ids = st.from_regex(r"\A[a-zA-Z0-9_-]{1,64}\Z")
cells = st.one_of(
    st.fixed_dictionaries(
        {
            "id": ids,
            "cell_type": st.just("code"),
            "source": texts,
            "metadata": metadata,
            "execution_count": counts,
            "outputs": st.lists(outputs, max_size=3),
        }
    ),
    st.fixed_dictionaries(
        {
            "id": ids,
            "cell_type": st.sampled_from(["markdown", "raw"]),
            "source": texts,
            "metadata": metadata,
        }
    ),
)
notebooks = st.fixed_dictionaries(
    {
        "nbformat": st.just(4),
        "nbformat_minor": st.just(5),
        "metadata": metadata,
        "cells": st.lists(cells, max_size=4, unique_by=lambda cell: cell["id"]),
    }
)


def from_file(data: bytes) -> dict[str, Any]:
    """The notebook of a file, which is valid for nbformat. Any warning of it is an error here."""
    reader: Any = nbformat
    notebook = reader.reads(data.decode(), as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    result: dict[str, Any] = json.loads(reader.v4.writes(notebook, split_lines=False))
    return result
