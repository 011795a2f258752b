"""Prints what boto3 reads from the metadata service, as one JSON object.

boto3 has the metadata address built in, and a test must never reach the machine's own. Either the
endpoint is set and every connection must be on loopback, or this runs in a network namespace other
than the one named by IMDSD_TEST_NOT_IN.
"""

import ipaddress
import json
import os
import socket

import boto3
import botocore.session
from botocore.utils import (
    IMDSFetcher,
    InstanceMetadataFetcher,
    InstanceMetadataRegionFetcher,
    resolve_imds_endpoint_mode,
)

if "IMDSD_TEST_NOT_IN" in os.environ:
    assert os.readlink("/proc/self/ns/net") != os.environ["IMDSD_TEST_NOT_IN"], "this is the machine's own network"
else:
    connect = socket.socket.connect

    def connect_on_loopback(self, address):
        assert ipaddress.ip_address(address[0]).is_loopback, f"{address} is not on loopback"
        return connect(self, address)

    socket.socket.connect = connect_on_loopback
    assert os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"], "the endpoint must be set"

session = botocore.session.get_session()
# Without an endpoint, AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE selects it, as in botocore's own session.
given = {"timeout": 5, "num_attempts": 1}
if endpoint := os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"):
    given["base_url"] = endpoint + "/"
else:
    given["config"] = {"ec2_metadata_service_endpoint_mode": resolve_imds_endpoint_mode(session)}
fetcher = IMDSFetcher(**given)
token = fetcher._fetch_metadata_token()
chain = session.get_credentials()
assert chain, "the default chain found no credentials"
print(json.dumps({
    "client": f"boto3 {boto3.__version__}",
    "endpoint": fetcher.get_base_url(),
    "region": InstanceMetadataRegionFetcher(**given).retrieve_region(),
    "instance_id": fetcher._get_request("latest/meta-data/instance-id", None, token).text,
    "credentials": InstanceMetadataFetcher(**given).retrieve_iam_role_credentials(),
    "access_key": chain.access_key,
    "found_by": chain.method,
}, default=str))
