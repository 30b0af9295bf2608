"""Datasets of the Hugging Face Hub: which commit a name means, and its rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.reading.row_files import BATCH, PlacedRows, without_null_fields
from runner.errors import DataError, MachineError

if TYPE_CHECKING:
    import datasets

    from runner.data.reading.resolved_source import ResolvedSource

HUB_TIMEOUT = 5.0  # seconds until the Hub counts as unreachable
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def may_be_hub_name(name: str) -> bool:
    """Whether the Hub may have a dataset of this name."""
    return bool(_HUB_NAME.fullmatch(name))


def hub_commit(name: str, revision: str | None) -> tuple[str, str | None]:
    """The commit of a Hub dataset, and the folder of its cached copy where the Hub is out of reach.

    One request with a short timeout: ``load_dataset`` would retry for minutes without a network.

    Raises:
        MachineError: the Hub has no such dataset for us, or is out of reach and there is no copy.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    # of whichever HTTP library this version of huggingface_hub stands on
    http_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        info = HfApi().dataset_info(name, revision=revision, timeout=HUB_TIMEOUT)
    except OfflineModeIsEnabled:
        return _cached_snapshot(name, revision, "HF_HUB_OFFLINE is set")
    except HfHubHTTPError as error:
        raise MachineError(_hub_refusal(name, revision, error.response.status_code)) from None
    except (http_error, OSError):
        return _cached_snapshot(name, revision, "the Hub cannot be reached from here")
    return str(info.sha), None


def _hub_refusal(name: str, revision: str | None, status: int) -> str:
    at = f" at revision {revision!r}" if revision else ""
    return (
        f"dataset.source: {name!r} is no file here, and the Hub answered {status} for a dataset of "
        f"this name{at}. Is the name right, and is a token set for a private or gated dataset?"
    )


def _cached_snapshot(name: str, revision: str | None, reason: str) -> tuple[str, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            name, repo_type="dataset", revision=revision, local_files_only=True
        )
    except LocalEntryNotFoundError:
        raise MachineError(
            f"dataset.source: {name!r} is no file here, and {reason}; no dataset of this name "
            "is in the local cache either. Correct the path, or fetch the dataset where there is "
            f"a network (hf download --repo-type dataset {name})."
        ) from None
    return Path(folder).name, folder


def read_hub_rows(source: ResolvedSource, columns: frozenset[str] | None) -> PlacedRows:
    """The rows of a Hub dataset, with those of ``columns`` that it has; it stays on disk.

    Raises:
        DataError: it cannot be loaded.
    """
    dataset = _load(source)
    if columns is not None:
        dataset = dataset.select_columns([n for n in dataset.column_names if n in columns])
    for number, row in enumerate(_arrow_rows(dataset)):
        yield f"{source.name}, row {number}", without_null_fields(row)


def _load(source: ResolvedSource) -> datasets.Dataset:
    import datasets

    try:
        return datasets.load_dataset(
            source.snapshot or source.hub,
            split=source.split,
            revision=None if source.snapshot else source.revision,
        )
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"dataset.source: {source.described} cannot be loaded: {error}") from None


def _arrow_rows(dataset: datasets.Dataset) -> Iterator[dict[str, Any]]:
    """Rows as Arrow has them: images and sounds are not decoded."""
    for table in dataset.with_format("arrow").iter(batch_size=BATCH):
        yield from table.to_pylist()
