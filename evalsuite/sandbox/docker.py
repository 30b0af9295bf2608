"""Backend ``docker``; what it holds is said in `evalsuite.sandbox.container`."""

from __future__ import annotations

from typing import ClassVar

from evalsuite.sandbox.container import Container


class Docker(Container):
    """Containers of Docker's service."""

    name: ClassVar[str] = "docker"
