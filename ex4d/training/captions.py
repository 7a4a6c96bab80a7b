# SPDX-License-Identifier: Apache-2.0
"""What a video shows, in words."""

from pathlib import Path

from ex4d.errors import InputError
from ex4d.generation.wan.settings import PROMPT

MAX_CHARACTERS = 4000  # Wan2.1's text encoder reads 512 tokens


def caption_of(video: Path, default: str | None) -> str:
    """The text file beside a video, NAME.txt, else the default, else what the release asks its model for.

    Raises:
        InputError: the file is no text or too long.
    """
    path = video.with_suffix(".txt")
    try:
        text = " ".join(path.read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return PROMPT if default is None else default
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The caption '{path}' cannot be read: {error}. Save it as plain text (UTF-8).") from error
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"The caption '{path}' has {len(text)} characters, the model reads up to {MAX_CHARACTERS}.")
    return text
