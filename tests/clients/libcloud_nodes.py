"""Lists nodes, volumes, key pairs and networks with Apache Libcloud; prints them as JSON.

The arguments are the host and the port of the control endpoint; no other address is contacted.
"""

import json
import os
import sys

from libcloud.compute.providers import get_driver
from libcloud.compute.types import Provider

driver = get_driver(Provider.EC2)(
    os.environ["AWS_ACCESS_KEY_ID"],
    os.environ["AWS_SECRET_ACCESS_KEY"],
    region="us-east-1",
    host=sys.argv[1],
    port=int(sys.argv[2]),
    secure=False,
    # The default is version 2.
    signature_version="4",
)
nodes = [
    {
        "id": node.id,
        "name": node.name,
        "state": node.state,
        "public": node.public_ips,
        "private": node.private_ips,
        "type": node.extra["instance_type"],
        "tags": node.extra["tags"],
    }
    for node in driver.list_nodes()
]
print(
    json.dumps(
        {
            "nodes": nodes,
            "zones": [zone.name for zone in driver.ex_list_availability_zones()],
            "key_pairs": [pair.name for pair in driver.list_key_pairs()],
            "networks": [network.id for network in driver.ex_list_networks()],
            "subnets": [subnet.id for subnet in driver.ex_list_subnets()],
            "groups": [group.id for group in driver.ex_get_security_groups()],
            "interfaces": [interface.id for interface in driver.ex_list_network_interfaces()],
        }
    )
)
