"""What boto3 reads through the metadata service at AWS_EC2_METADATA_SERVICE_ENDPOINT, as one JSON object."""

import json

import botocore.session
from botocore.utils import InstanceMetadataFetcher, InstanceMetadataRegionFetcher, IMDSFetcher

credentials = InstanceMetadataFetcher(timeout=5, num_attempts=1).retrieve_iam_role_credentials()
fetcher = IMDSFetcher(timeout=5, num_attempts=1)
token = fetcher._fetch_metadata_token()
chain = botocore.session.get_session().get_credentials()
print(json.dumps({
    "region": InstanceMetadataRegionFetcher(timeout=5, num_attempts=1).retrieve_region(),
    "instance_id": fetcher._get_request("/latest/meta-data/instance-id", None, token).text,
    "credentials": credentials,
    "default_chain": {"method": chain.method, "access_key": chain.access_key},
}, default=str))
