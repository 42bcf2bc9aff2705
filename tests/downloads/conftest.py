"""A new S3 bucket for each test."""

from uuid import uuid4

import pytest
from aiobotocore.session import get_session


@pytest.fixture
async def s3_variables(s3) -> dict[str, str]:
    bucket = f"test-{uuid4().hex}"
    async with get_session().create_client(
        "s3", region_name="us-east-1", endpoint_url=s3.url,
        aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key,
    ) as client:  # fmt: skip
        await client.create_bucket(Bucket=bucket)
    return {
        "REGISTRY_STORAGE_TYPE": "s3",
        "REGISTRY_S3_BUCKET": bucket,
        "REGISTRY_S3_ENDPOINT": s3.url,
        "REGISTRY_S3_ACCESS_KEY": s3.access_key,
        "REGISTRY_S3_SECRET_KEY": s3.secret_key,
    }
