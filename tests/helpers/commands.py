"""Commands of `lawn-tune`, run in process."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from lawn_tune.cli.main import app


def run(*args: str) -> Result:
    return CliRunner().invoke(app, args)


def read(*args: str) -> Any:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
