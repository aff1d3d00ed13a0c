"""Completion in the shell: of files, and of the names of scenarios, losses, laws and everything else that is listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def names(*kinds: str, files: bool = False) -> Completer:
    """Completer of names of the given kinds of `sgdsim.app.catalogue`, with a description of each, and of files.

    Examples
    --------
    >>> complete = names("optimizers")
    >>> [item.value for item in complete(None, None, "ada")]
    ['adam', 'adamw']
    """

    def complete(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=text) for kind in kinds for name, text in _named(kind) if name.startswith(begun)
        ]
        return found + ([CompletionItem(begun, type="file")] if files else [])

    return complete


def files(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Completion of files, which the shell does itself."""
    return [CompletionItem(begun, type="file")]


def _named(kind: str) -> Iterable[tuple[str, str]]:
    """Names of a kind, without arguments, each with the first line of its description."""
    from sgdsim.app.catalogue import KINDS

    entries = dict.fromkeys(KINDS, "") if kind == "kinds" else KINDS[kind]()
    return [(name.partition(":")[0], text.partition("\n")[0]) for name, text in entries.items()]
