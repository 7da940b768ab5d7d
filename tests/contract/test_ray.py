"""Ray keeps the contract of a backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contract.backend_contract import DeathContract
from iceblink.run.pipeline.backend import Backend
from iceblink.run.ray.ray_backend import RayBackend
from iceblink.run.ray.session import Session


class TestRay(DeathContract):
    processes = True

    @pytest.fixture
    def backend(self, ray_session: Session) -> Iterator[Backend]:
        backend = RayBackend(ray_session)
        yield backend
        backend.close()
