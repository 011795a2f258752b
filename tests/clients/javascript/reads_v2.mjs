// Prints what the AWS SDK for JavaScript v2 reads from the metadata service, as one JSON object.
//
// The SDK has the metadata address built in, so this runs only in a network namespace other than the
// one named by IMDSD_TEST_NOT_IN.

import assert from "node:assert/strict";
import { readlinkSync } from "node:fs";
import { promisify } from "node:util";

assert(process.env.IMDSD_TEST_NOT_IN, "only a test that created a namespace may run this");
assert.notEqual(readlinkSync("/proc/self/ns/net"), process.env.IMDSD_TEST_NOT_IN, "this is the machine's own network");

process.env.AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE = "1";
const { default: AWS } = await import("aws-sdk");

const service = new AWS.MetadataService({});
const token = await promisify(service.fetchMetadataToken.bind(service))();
const read = (path) =>
    promisify(service.request.bind(service))(path, { headers: { "x-aws-ec2-metadata-token": token } });
const credentials = new AWS.EC2MetadataCredentials({});
await credentials.getPromise();
console.log(
    JSON.stringify({
        client: `aws-sdk ${AWS.VERSION}`,
        region: await read("/latest/meta-data/placement/region"),
        instance_id: await read("/latest/meta-data/instance-id"),
        access_key: credentials.accessKeyId,
    }),
);
