"""Backend ``podman``; what it holds is said in `evalsuite.sandbox.container`."""

from __future__ import annotations

from typing import ClassVar

from evalsuite.sandbox.container import Container


class Podman(Container):
    """Containers of podman, which needs no service."""

    name: ClassVar[str] = "podman"

    def version_format(self) -> str:
        """Without a service there is a client alone."""
        return "{{.Client.Version}}"
