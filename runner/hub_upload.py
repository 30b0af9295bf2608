"""A release on the Hugging Face Hub: one commit that makes the repository equal to the folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import MachineError, UsageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TOKEN_REMEDY = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write."
_STATUS_NOT_ALLOWED = (401, 403)


def push_release(
    release: Path, repository: str, *, public: bool, message: str, api: HfApi | None = None
) -> str:
    """Upload a release folder as one commit, and return the commit's address.

    Files of the repository that are not in the release are removed: it must verify after a
    download. The token is taken from where huggingface_hub looks for it.

    Args:
        release: A packed release.
        repository: ``org/name``; made if it is not there.
        public: Whether everybody may see it.
        message: First line of the commit message.
        api: The Hub; the real one if None.

    Raises:
        UsageError: the name is no repository's, or it is public and ``public`` was not asked for.
        MachineError: the Hub cannot be reached, or does not allow it.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    if api is None:
        from huggingface_hub import HfApi

        api = HfApi()
    http_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        return _uploaded(api, release, repository, public=public, message=message)
    except HFValidationError as error:
        raise UsageError(f"--push {repository!r}: no name of a Hub repository: {error}") from None
    except HfHubHTTPError as error:
        raise MachineError(_refused(repository, release, error)) from None
    except (OfflineModeIsEnabled, http_error, OSError) as error:
        raise MachineError(
            f"--push {repository}: the Hub cannot be reached from here (offline, or HF_HUB_OFFLINE "
            f"is set): {type(error).__name__}. The release is packed at {release}; the same "
            "command pushes it where there is a network."
        ) from None


def _uploaded(api: HfApi, release: Path, repository: str, *, public: bool, message: str) -> str:
    if "/" not in repository:
        raise UsageError(f"--push {repository!r}: write the organisation or user too: org/name")
    api.create_repo(repository, repo_type="model", private=not public, exist_ok=True)
    if not public and not api.model_info(repository).private:
        raise UsageError(
            f"--push {repository}: this repository is public already. Add --public if everybody "
            "may see the release, or name another one."
        )
    commit = api.upload_folder(
        repo_id=repository,
        repo_type="model",
        folder_path=str(release),
        commit_message=message,
        delete_patterns="*",
    )
    return str(commit.commit_url)


def _refused(repository: str, release: Path, error: Exception) -> str:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    remedy = _TOKEN_REMEDY if status in _STATUS_NOT_ALLOWED else "Nothing is published by halves."
    return (
        f"--push {repository}: the Hub answered {status or 'with an error'}. {remedy} "
        f"The release is packed at {release}."
    )
