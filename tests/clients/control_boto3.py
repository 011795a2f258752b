"""Calls the EC2 API with boto3. Each input line is a call as JSON; each output line is its result or
error code.

The only argument is the endpoint; no other address is contacted.
"""

import json
import sys

import boto3
from botocore import xform_name
from botocore.exceptions import ClientError

clients = {}
for line in sys.stdin:
    call = json.loads(line)
    service, action = call["service"], call["action"]
    if service not in clients:
        clients[service] = boto3.client(service, endpoint_url=sys.argv[1], region_name="us-east-1")
    client = clients[service]
    try:
        if action.startswith("wait:"):
            result = client.get_waiter(action[5:]).wait(**call["input"], WaiterConfig={"Delay": 1, "MaxAttempts": 10})
        else:
            result = getattr(client, xform_name(action))(**call["input"])
            result.pop("ResponseMetadata")
        answer = {"result": result}
    except ClientError as error:
        answer = {"error": error.response["Error"]["Code"]}
    print(json.dumps(answer, default=str), flush=True)
