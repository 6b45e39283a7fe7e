"""Secrets come from the environment or from the files that it names."""

from __future__ import annotations

import os

from mcl.base.errors import ConfigError
from mcl.base.redact import stored_secret


def secret(name: str) -> str:
    """The value of a secret, empty when there is none. ConfigError when NAME_FILE names what cannot
    be read.
    """
    try:
        return stored_secret(name)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        file = os.environ[f"{name}_FILE"]
        raise ConfigError(
            f"{name}_FILE={file} cannot be read: {reason}", f"fix the path, or set {name}"
        ) from None
