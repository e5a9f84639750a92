"""Errors of files: how the tests provoke and read them."""

from pathlib import Path
from typing import Any

import pytest

from softly._errors import InputError
from softly.files import open_scores

Options = dict[str, Any]


def complaint(path: Path | str, **options: Any) -> str:
    """Open and scan; return the error, which must be one line that names the file."""
    with pytest.raises(InputError) as raised:
        for _ in open_scores(path, **{"label": "label"} | options).batches():
            pass
    message = str(raised.value)
    assert message.isprintable()
    assert message.startswith(str(path).rpartition("/")[0])
    assert ": " in message
    return message
