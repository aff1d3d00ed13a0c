"""The tables of options as docs/simulate.md has them."""

from __future__ import annotations

from sgdsim.input.options import TABLE


def docs_table(heading: str) -> str:
    """The options under a heading, as they stand in docs/simulate.md."""
    rows = ["| option | TOML key | |", "| --- | --- | --- |"]
    for option in TABLE[heading]:
        flag = f"`{option.flag} {option.usage}`" if option.usage else f"`{option.flag}`"
        keys = " or ".join(f"`{key}`" for key in option.keys if key not in option.called)
        default = f" Default: `{option.default}`." if option.default else ""
        cells = (flag + (f", `{option.short}`" if option.short else ""), keys, option.meaning + default)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)
