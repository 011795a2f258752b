"""What boto3 reads through the metadata service at AWS_EC2_METADATA_SERVICE_ENDPOINT, as one JSON object.

Every connection is held to loopback: boto3 has the metadata address built in, and a test must never ask it.
"""

import ipaddress
import json
import os
import socket

import botocore.session
from botocore.utils import IMDSFetcher, InstanceMetadataFetcher, InstanceMetadataRegionFetcher

connect = socket.socket.connect


def connect_on_loopback(self, address):
    assert ipaddress.ip_address(address[0]).is_loopback, f"{address} is not on loopback"
    return connect(self, address)


socket.socket.connect = connect_on_loopback

endpoint = {"base_url": os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] + "/", "timeout": 5, "num_attempts": 1}
fetcher = IMDSFetcher(**endpoint)
token = fetcher._fetch_metadata_token()
chain = botocore.session.get_session().get_credentials()
print(json.dumps({
    "region": InstanceMetadataRegionFetcher(**endpoint).retrieve_region(),
    "instance_id": fetcher._get_request("latest/meta-data/instance-id", None, token).text,
    "credentials": InstanceMetadataFetcher(**endpoint).retrieve_iam_role_credentials(),
    "default_chain": {"method": chain.method, "access_key": chain.access_key},
}, default=str))
