"""What the shell completes: names of scenarios, losses, laws and whatever else there is a list of, and files."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def names(*kinds: str, files: bool = False) -> Completer:
    """Completes names of these kinds of `sgdsim.app.catalogue`, with what each is, and files where these may stand.

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
    """Completes files."""
    return [CompletionItem(begun, type="file")]


def _named(kind: str) -> Iterable[tuple[str, str]]:
    """Names without the arguments that some take, and the first line of what each is."""
    from sgdsim.app.catalogue import KINDS

    entries = dict.fromkeys(KINDS, "") if kind == "kinds" else KINDS[kind]()
    return [(name.partition(":")[0], text.partition("\n")[0]) for name, text in entries.items()]
