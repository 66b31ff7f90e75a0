"""The page on settings, made from their declarations: `python -m lawn_tune.settings.page > docs/settings.md`."""

from __future__ import annotations

from lawn_tune.settings.resolve import FILE
from lawn_tune.settings.table import PREFIX, SETTINGS

HEAD = f"""# Settings

Each setting is read from its flag, else from its variable, else from its key in `{FILE}` in the working directory;
otherwise it has its default. Commands have the flags of the settings that they use. An empty variable counts as not
set; an unknown `{PREFIX}…` variable or key is an error.

| key | flag | variable | default | |
| --- | --- | --- | --- | --- |
"""


def page() -> str:
    """Returns the text of `docs/settings.md`."""
    lines = []
    for setting in SETTINGS:
        flag = f"{setting.flag} {setting.metavar}".strip().replace("|", "\\|")
        default = "" if setting.default is None else f"`{setting.default}`"
        lines.append(f"| `{setting.name}` | `{flag}` | `{setting.variable}` | {default} | {setting.help} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
