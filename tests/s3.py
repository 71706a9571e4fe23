"""A real S3 server on localhost, in the process of the tests: moto's, over HTTP."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET_KEY = "make-believe/Aws+Secret0123456789abcdefgh"
REGION = "us-east-1"


class S3:
    def __init__(self, endpoint: str) -> None:
        self.environment = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "AKIAMAKEBELIEVE00000",
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
        }
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="AKIAMAKEBELIEVE00000",
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
        )

    def make_bucket(self, name: str) -> str:
        self.client.create_bucket(Bucket=name)
        self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Every object that is visible, by key."""
        listed = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {
            entry["Key"]: self.client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read() for entry in listed
        }

    def versions(self, bucket: str) -> int:
        """How many times anything was put in place or taken away."""
        found = self.client.list_object_versions(Bucket=bucket)
        return len(found.get("Versions", [])) + len(found.get("DeleteMarkers", []))

    def unfinished(self, bucket: str) -> int:
        """Uploads that were neither finished nor taken back: they cost money and nobody sees them."""
        return len(self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))


@contextmanager
def serve() -> Iterator[S3]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()
