"""What boto3 reads through the metadata service, as one JSON object.

boto3 has the metadata address built in, and a test must never ask the machine's own. Either the endpoint is given, and every
connection is held to loopback; or this runs in a network namespace that is not the one named by IMDSD_TEST_NOT_IN.
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
    assert os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"], "there must be a service to ask"

session = botocore.session.get_session()
# Without an endpoint the clients choose theirs by AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE, as botocore's own session does.
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
