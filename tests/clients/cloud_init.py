"""Prints what cloud-init's Ec2 data source reads from the metadata service, as one JSON object.

    cloud_init.py PACKAGE DIRECTORY

PACKAGE is the unpacked Debian package of cloud-init; it is never installed on this machine. DIRECTORY
is where it may write. cloud-init has the metadata address built in, so this runs only in a network
namespace other than the one named by IMDSD_TEST_NOT_IN.

The crawl below follows cloud-init's rules and reads every listed entry itself: if one is missing,
cloud-init discards everything and does not report which.
"""

import json
import logging
import os
import sys
import urllib.request

assert os.readlink("/proc/self/ns/net") != os.environ["IMDSD_TEST_NOT_IN"], "this is the machine's own network"
package, directory = sys.argv[1:]
sys.path.insert(0, f"{package}/usr/lib/python3/dist-packages")

from cloudinit import distros, helpers, version  # noqa: E402
from cloudinit.sources import DataSourceEc2 as ec2  # noqa: E402

# cloud-init warns of a listed name that it cannot read, of a name listed twice, and of invalid JSON.
complaints = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: complaints.append(record.getMessage())
logging.getLogger().addHandler(handler)

# cloud-init detects the platform from the SMBIOS, which a network namespace does not have.
ec2.identify_platform = lambda: ec2.CloudNames.AWS

paths = helpers.Paths({"cloud_dir": directory, "run_dir": directory})
distro = distros.fetch("debian")("debian", {}, paths)
source = ec2.DataSourceEc2({"datasource": {"Ec2": {"max_wait": 10, "timeout": 5}}}, distro, paths)
assert source.get_data(), "cloud-init found no metadata"


def read(path, headers={}, method="GET"):
    request = urllib.request.Request(f"http://169.254.169.254{path}", headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read()


token = read("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT").decode()
headers = {"X-aws-ec2-metadata-token": token}
crawled, missing = [], []


def crawl(directory):
    for line in read(directory, headers).decode().splitlines():
        if directory.endswith("/public-keys/"):
            line = line.split("=")[0] + "/"
        path = directory + urllib.request.quote(line)
        crawled.append(path)
        try:
            crawl(path) if path.endswith("/") else read(path, headers)
        except urllib.error.HTTPError as error:
            missing.append(f"{error.code} {path}")


for version_of_tree in read("/", headers).decode().splitlines():
    for top in read(f"/{version_of_tree}/", headers).decode().splitlines():
        if top != "user-data":
            crawl(f"/{version_of_tree}/{top}/")

print(json.dumps({
    "client": f"cloud-init {version.version_string()}",
    "metadata_version": source.get_metadata_api_version(),
    "instance_id": source.get_instance_id(),
    "region": source.region,
    "availability_zone": source.availability_zone,
    "public_ssh_keys": source.get_public_ssh_keys(),
    "user_data": source.get_userdata_raw().decode("latin-1"),
    "metadata": source.metadata,
    "identity": source.identity,
    "network_config": source.network_config,
    "complaints": complaints,
    "crawled": len(crawled),
    "missing": missing,
}, default=str))
