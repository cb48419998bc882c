"""Sets on the Hugging Face Hub, through `datasets`: `owner/name[:config][:split]`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from minikin.base.extras import need
from minikin.data.faults import Bag

BATCH_ROWS = 10_000
USUAL_SPLITS = ("train", "test", "validation", "dev", "unsupervised")


def opened(
    name: str, wanted: Sequence[str], role: str, bag: Bag
) -> tuple[tuple[str, ...], Iterator[Any], dict[str, list[str]]]:
    """Return (columns, Arrow tables, column → label names) of a set on the Hub; no columns if it can't be read.

    Without a split the one of the same name as `role` is read. `HF_HUB_OFFLINE` is respected: then only what
    lies in the local cache is found.
    """
    datasets = need("datasets")
    repository, *rest = name.split(":")
    try:
        config, split = _config_and_split(datasets, repository, rest)
        found = datasets.load_dataset(repository, config)
        split = split or _usual_split(role, list(found))
        if split not in found:
            bag.fatal("missing-split", f"{role}: hf:{name} has no split '{split}'; it has {', '.join(found)}")
            return (), iter(()), {}
        chosen = found[split]
        names = {key: value.names for key, value in chosen.features.items() if hasattr(value, "names")}
        columns = [column for column in wanted if column in chosen.column_names]
        tables = chosen.select_columns(columns).with_format("arrow").iter(BATCH_ROWS)
        return tuple(chosen.column_names), tables, names
    except Exception as error:  # `datasets` raises a dozen kinds, of several packages
        first = (str(error).splitlines() or [type(error).__name__])[0]
        bag.fatal(
            "unreadable",
            f"{role}: hf:{name} can't be loaded ({first}). Check the name and the network, or give a local file",
        )
        return (), iter(()), {}


def _usual_split(role: str, found: Sequence[str]) -> str:
    if role in found:
        return role
    return "train" if role == "unlabelled" else found[0] if len(found) == 1 else role


def _config_and_split(datasets: Any, repository: str, rest: Sequence[str]) -> tuple[str | None, str | None]:
    """Tell a configuration from a split where only one of them is given."""
    if len(rest) > 2:
        raise ValueError("a name is owner/name:config:split")
    if len(rest) == 2:
        return rest[0] or None, rest[1] or None
    if not rest:
        return None, None
    if rest[0] not in USUAL_SPLITS and rest[0] in datasets.get_dataset_config_names(repository):
        return rest[0], None
    return None, rest[0]
