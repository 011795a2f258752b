"""Calls the EC2 API with requests and aws-requests-auth, which signs neither content-type nor
x-amz-content-sha256. Prints the status of a POST and of a GET.

The only argument is the endpoint's host and port; no other address is contacted.
"""

import os
import sys

import requests
from aws_requests_auth.aws_auth import AWSRequestsAuth

auth = AWSRequestsAuth(
    aws_access_key=os.environ["AWS_ACCESS_KEY_ID"],
    aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    aws_host=sys.argv[1],
    aws_region="us-east-1",
    aws_service="ec2",
)
call = {"Action": "DescribeInstances", "Version": "2016-11-15"}
print(requests.post(f"http://{sys.argv[1]}/", data=call, auth=auth).status_code)
print(requests.get(f"http://{sys.argv[1]}/", params=call, auth=auth).status_code)
