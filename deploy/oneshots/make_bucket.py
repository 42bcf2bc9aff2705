"""Creates the bucket that the registry's settings name, unless it exists. Runs with the registry's environment."""

import sys

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from registry.errors import SettingsError
from registry.setting_parts import StorageSettings
from registry.settings import Settings

# Some servers return the second code even if the bucket is our own.
EXISTS_CODES = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


def main() -> None:
    try:
        storage = Settings.read().storage
        sys.stdout.write(f"bucket {storage.s3_bucket}: {create(storage)}\n")
    except (SettingsError, BotoCoreError, ClientError) as problem:
        sys.exit(f"The bucket can't be created: {problem}")


def create(storage: StorageSettings) -> str:
    client = get_session().create_client(
        "s3",
        region_name=storage.s3_region,
        endpoint_url=storage.s3_endpoint or None,
        aws_access_key_id=storage.s3_access_key or None,
        aws_secret_access_key=storage.s3_secret_key or None,
        verify=storage.s3_ca or None,
        config=Config(connect_timeout=5, read_timeout=30, s3={"addressing_style": "path"}),
    )
    try:
        client.create_bucket(Bucket=storage.s3_bucket)
    except ClientError as problem:
        if problem.response["Error"]["Code"] not in EXISTS_CODES:
            raise
        # Fails if the bucket belongs to somebody else.
        client.head_bucket(Bucket=storage.s3_bucket)
        return "exists already"
    return "created"


if __name__ == "__main__":
    main()
