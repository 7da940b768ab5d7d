"""Ray keeps the contract of a backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contract.backend_contract import BackendContract, DeathContract
from iceblink.run.pipeline.backend import Backend
from iceblink.run.ray.ray_backend import RayBackend
from iceblink.run.ray.session import Session


@pytest.fixture
def backend(ray_session: Session) -> Iterator[Backend]:
    backend = RayBackend(ray_session)
    yield backend
    backend.close()


class TestRayHosts(DeathContract):
    processes = True

    @pytest.fixture
    def backend(self, backend: Backend) -> Backend:
        return backend


class TestThreadsBesideRay(BackendContract):
    processes = False

    @pytest.fixture
    def backend(self, backend: Backend) -> Backend:
        return backend
