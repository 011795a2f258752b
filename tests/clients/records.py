"""Puts random instances of the shape that botocore's model of EC2 has, and compares what the EC2 API
returns with what was put.

Arguments: the endpoint, the program imdsd, the AWS CLI, and a directory for files. The seed is fixed.
No other address is contacted.
"""

import ipaddress
import json
import pathlib
import random
import re
import subprocess
import sys
import time

import boto3
import botocore.session

endpoint, imdsd, aws, directory = sys.argv[1], sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4])
chance = random.Random(0x1AD5)
model = botocore.session.get_session().get_service_model("ec2")
ec2 = boto3.client("ec2", endpoint_url=endpoint, region_name="us-east-1")

# Fields that a document of imdsd needs, beside those that EC2 always prints.
NEEDED = {
    "Instance": {"InstanceId", "LaunchTime"},
    "IamInstanceProfile": {"Arn", "Id"},
    "Tag": {"Key", "Value"},
    "GroupIdentifier": {"GroupId", "GroupName"},
    "ProductCode": {"ProductCodeId"},
    "InstanceBlockDeviceMapping": {"DeviceName"},
    "InstanceNetworkInterface": {"MacAddress"},
    "InstancePrivateIpAddress": {"PrivateIpAddress"},
    "InstanceIpv6Address": {"Ipv6Address"},
    "InstanceIpv4Prefix": {"Ipv4Prefix"},
    "InstanceIpv6Prefix": {"Ipv6Prefix"},
    "InstanceState": {"Code", "Name"},
    "Monitoring": {"State"},
}
# Lists that EC2 does not print when they are empty.
NEVER_EMPTY = {"Tags", "Ipv4Prefixes", "Ipv6Prefixes"}
# Texts that EC2 prints even if there is none.
MAY_BE_EMPTY = {"PublicDnsName", "StateTransitionReason", "ClientToken", "GroupName", "Description"}
# What a reply has and a document need not have: EC2 prints it always, or imdsd derives it.
ADDED = {
    "Instance": {
        "AmiLaunchIndex": 0, "Architecture": "x86_64", "BlockDeviceMappings": [], "ClientToken": "",
        "ImageId": "ami-00000000000000000", "InstanceType": "m5.large", "Monitoring": {"State": "disabled"},
        "NetworkInterfaces": [], "ProductCodes": [], "PublicDnsName": "", "SecurityGroups": [],
        "State": {"Code": 16, "Name": "running"}, "StateTransitionReason": "", "VirtualizationType": "hvm",
        "Ipv6Address": None, "MetadataOptions": None, "Placement": None, "PrivateDnsName": None,
        "PrivateIpAddress": None,
    },
    "Placement": {"AvailabilityZone": "us-east-1a", "GroupName": "", "Tenancy": "default", "AvailabilityZoneId": None},
    "InstanceMetadataOptionsResponse": {
        "State": "applied", "HttpTokens": "required", "HttpEndpoint": "enabled", "HttpProtocolIpv6": "disabled",
        "InstanceMetadataTags": "disabled", "HttpPutResponseHopLimit": None,
    },
    "InstanceNetworkInterface": {
        "Attachment": {"DeviceIndex": 0}, "Description": "", "Groups": [], "Ipv6Addresses": [],
        "PrivateIpAddresses": [], "Association": None, "OwnerId": None, "PrivateDnsName": None,
    },
    "InstanceNetworkInterfaceAttachment": {"DeviceIndex": 0},
    "InstanceNetworkInterfaceAssociation": {"PublicDnsName": ""},
    "InstancePrivateIpAddress": {"Primary": False},
    "HibernationOptions": {"Configured": False},
    "EnclaveOptions": {"Enabled": False},
}
STATES = [(0, "pending"), (16, "running"), (32, "shutting-down"), (64, "stopping"), (80, "stopped")]
CHOICES = {
    "HttpTokens": ["optional", "required"], "HttpEndpoint": ["enabled", "disabled"],
    "HttpProtocolIpv6": ["enabled", "disabled"], "InstanceMetadataTags": ["enabled", "disabled"],
    "AvailabilityZone": ["us-east-1a", "eu-west-1b", "us-west-2-lax-1a", "basement"],
}
serial = 0


def unique():
    global serial
    serial += 1
    return serial


def ipv4():
    return str(ipaddress.IPv4Address(0x0A000000 + chance.randrange(1 << 24)))


def ipv6(bits=128):
    return ipaddress.IPv6Address((0x20010DB8 << 96) + (chance.randrange(1 << 96) >> (128 - bits) << (128 - bits)))


def text(name):
    if name in MAY_BE_EMPTY and chance.random() < 0.3:
        return ""
    letters = "abcXYZ019 -_./:+=@<>&\"'\\%üß猫🦀"
    return "x" + "".join(chance.choice(letters) for _ in range(chance.randrange(12))) + "x"


def scalar(name, shape, owner):
    kind = shape.type_name
    if name in CHOICES:
        return chance.choice(CHOICES[name])
    if name == "InstanceId":
        return f"i-{unique():017x}"
    if name == "MacAddress" and owner == "InstanceNetworkInterface":
        return "02:00:" + ":".join(f"{byte:02x}" for byte in unique().to_bytes(4, "big"))
    if name == "Key":
        return f"key:{unique()}"
    if name in ("PrivateIpAddress", "PublicIpAddress", "PublicIp"):
        return ipv4()
    if name == "Ipv6Address":
        return str(ipv6())
    if name == "Ipv4Prefix":
        return f"10.{chance.randrange(256)}.{chance.randrange(256)}.{16 * chance.randrange(16)}/28"
    if name == "Ipv6Prefix":
        return f"{ipv6(80)}/80"
    if name == "HttpPutResponseHopLimit":
        return chance.randrange(1, 65)
    if name in ("DeviceIndex", "AmiLaunchIndex", "PartitionNumber", "NetworkCardIndex"):
        return unique()
    if kind == "string":
        return text(name)
    if kind == "boolean":
        return chance.random() < 0.5
    if kind == "integer":
        return chance.choice([0, 1, -1, 2**31 - 1, -(2**31), chance.randrange(1000)])
    if kind == "timestamp":
        return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(chance.randrange(2**31)))
    raise AssertionError(f"{name} is {kind}")


def value(name, shape, often, owner=""):
    if shape.type_name == "list":
        count = 1 if often == 1 or name in NEVER_EMPTY else chance.randrange(3)
        return [value(name, shape.member, often) for _ in range(count)]
    if shape.type_name != "structure":
        return scalar(name, shape, owner)
    needed = NEEDED.get(shape.name, set())
    return {
        member: value(member, of, often, shape.name)
        for member, of in shape.members.items()
        if member in needed or chance.random() < often
    }


def instance(shape, often):
    made = value("Instance", shape, often)
    if "State" in made:
        code, name = chance.choice(STATES)
        made["State"] = {"Code": code, "Name": name}
    if "MetadataOptions" in made:
        made["MetadataOptions"]["State"] = "applied"
    # EC2 derives these from each other, and imdsd refuses documents in which they differ.
    made.pop("PrivateIpAddress", None)
    for place, interface in enumerate(made.get("NetworkInterfaces", [])):
        if "Attachment" in interface or place > 0:
            interface.setdefault("Attachment", {})["DeviceIndex"] = place
        addresses = interface.get("PrivateIpAddresses", [])
        for rank, address in enumerate(addresses):
            address["Primary"] = rank == 0
        interface.pop("PrivateIpAddress", None)
        if addresses:
            interface["PrivateIpAddress"] = addresses[0]["PrivateIpAddress"]
            if place == 0 and chance.random() < often:
                made["PrivateIpAddress"] = interface["PrivateIpAddress"]
    return made


def reservations(count):
    shape = model.operation_model("DescribeInstances").output_shape.members["Reservations"].member
    made = []
    for number in range(count):
        # The first two have every field.
        often = 1 if number < 2 else chance.choice([0.1, 0.5, 0.9])
        reservation = {
            "ReservationId": f"r-{unique():017x}", "OwnerId": f"{unique():012}",
            "Groups": value("Groups", shape.members["Groups"], often),
            "Instances": [instance(shape.members["Instances"].member, often) for _ in range(1 + number % 2)],
        }
        if chance.random() < often:
            reservation["RequesterId"] = text("RequesterId")
        made.append(reservation)
    return made


def differences(path, shape, put, got):
    """Yields where `got` is not what was put."""
    if shape.type_name == "structure":
        for member in sorted(put.keys() | got.keys()):
            place = f"{path}.{member}"
            if member not in got:
                yield f"{place}: lost {put[member]!r}"
            elif member in put:
                yield from differences(place, shape.members[member], put[member], got[member])
            elif member not in ADDED.get(shape.name, {}):
                yield f"{place}: added {got[member]!r}"
            else:
                usual = ADDED[shape.name][member]
                if usual is not None and got[member] != usual:
                    yield f"{place}: added {got[member]!r}, not {usual!r}"
    elif shape.type_name == "list":
        if len(put) != len(got):
            yield f"{path}: {len(put)} elements are {len(got)}"
        for index, (one, other) in enumerate(zip(put, got)):
            yield from differences(f"{path}[{index}]", shape.member, one, other)
    elif put != got:
        yield f"{path}: put {put!r}, got {got!r}"


def printed(result):
    """As the AWS CLI prints it: times in ISO 8601."""
    return json.loads(json.dumps(result, default=lambda moment: moment.isoformat()))


def described():
    """What boto3 returns, once all options are applied."""
    for _ in range(100):
        pages = ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 7})
        found = [reservation for page in pages for reservation in page["Reservations"]]
        instances = [one for reservation in found for one in reservation["Instances"]]
        if all(one["MetadataOptions"]["State"] == "applied" for one in instances):
            return printed(found)
        time.sleep(0.05)
    raise AssertionError("options stay pending")


def by_id(found):
    return {one["InstanceId"]: one for reservation in found for one in reservation["Instances"]}


def put(document, name):
    file = directory / name
    file.write_text(json.dumps(document))
    subprocess.run([imdsd, "instance", "put", str(file)], check=True, stdout=subprocess.DEVNULL)


def cli(*arguments):
    command = [aws, "ec2", *arguments, "--output", "json", "--region", "us-east-1", "--endpoint-url", endpoint]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def with_offsets(printed):
    """Version 1 of the AWS CLI prints times as they are in the reply: with `.000Z` for `+00:00`."""
    return json.loads(re.sub(r'(T[0-9:]{8})\.000Z"', r'\1+00:00"', json.dumps(printed)))


def without_demo(found, ids):
    return [reservation for reservation in found if reservation["Instances"][0]["InstanceId"] in ids]


made = reservations(24)
put({"Reservations": made}, "made.json")
got = described()
shape = model.operation_model("DescribeInstances").output_shape.members["Reservations"].member
mine, theirs = by_id(made), by_id(got)
faults = []
for identity, one in mine.items():
    faults += differences(identity, shape.members["Instances"].member, one, theirs[identity])
reserved = {reservation["ReservationId"]: reservation for reservation in got}
for reservation in made:
    for field in ("OwnerId", "RequesterId", "Groups"):
        back = reserved[reservation["ReservationId"]].get(field)
        if back != reservation.get(field):
            faults.append(f"{reservation['ReservationId']}.{field}: {reservation.get(field)!r} is {back!r}")
assert not faults, "\n".join(faults[:40])

# What the AWS CLI prints is a document that comes back equal: now nothing is added either. The
# instances are new, so that nothing of the first documents can help.
first = without_demo(cli("describe-instances")["Reservations"], mine)
assert by_id(with_offsets(first)) == {identity: theirs[identity] for identity in mine}
subprocess.run([imdsd, "instance", "delete", *mine], check=True, stdout=subprocess.DEVNULL)
put({"Reservations": first}, "printed.json")
described()
second = without_demo(cli("describe-instances")["Reservations"], mine)
assert first == second, [pair for pair in zip(first, second) if pair[0] != pair[1]][:1]

# The partition of every region that botocore knows.
regions = 0
for partition in botocore.session.get_session().get_available_partitions():
    for region in botocore.session.get_session().get_available_regions("ec2", partition):
        sts = boto3.client("sts", endpoint_url=endpoint, region_name=region)
        arn = sts.get_caller_identity()["Arn"]
        assert arn.split(":")[1] == partition, (region, arn)
        regions += 1
print(json.dumps({"instances": len(mine), "regions": regions}))
