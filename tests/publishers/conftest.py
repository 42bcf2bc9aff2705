"""An issuer, and a registry that trusts it for all three kinds."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.client import Registry
from tests.conftest import MakeRegistry
from tests.publishers.issuer import AUDIENCE, Issuer, running_issuer


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[Issuer]:
    async with running_issuer(tmp_path) as running:
        yield running


def settings_of(issuer: Issuer, kind: str = "github") -> dict[str, str]:
    """The settings of a registry that allows the issuer."""
    return {
        "REGISTRY_OIDC_ISSUERS": f"{kind}={issuer.url}",
        "REGISTRY_OIDC_CA": issuer.ca,
        "REGISTRY_PUBLIC_URL": AUDIENCE,
    }


@pytest.fixture
async def trusting(make_registry: MakeRegistry, issuer: Issuer) -> Registry:
    """A registry whose issuer for GitHub is `issuer`."""
    return await make_registry(**settings_of(issuer))
