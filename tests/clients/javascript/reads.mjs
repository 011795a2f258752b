// Prints what the AWS SDK for JavaScript v3 reads from the metadata service, as one JSON object.
//
// The SDK has the metadata address built in, so this runs only in a network namespace other than the
// one named by IMDSD_TEST_NOT_IN.

import assert from "node:assert/strict";
import { readlinkSync } from "node:fs";
import { createRequire } from "node:module";

assert(process.env.IMDSD_TEST_NOT_IN, "only a test that created a namespace may run this");
assert.notEqual(readlinkSync("/proc/self/ns/net"), process.env.IMDSD_TEST_NOT_IN, "this is the machine's own network");

const { STSClient } = await import("@aws-sdk/client-sts");
const { MetadataService } = await import("@aws-sdk/ec2-metadata-service");

// A client without settings: region and credentials come from its default chains.
const client = new STSClient({});
const region = await client.config.region();
const credentials = await client.config.credentials();
const instanceId = await new MetadataService({}).request("/latest/meta-data/instance-id", {});
console.log(
    JSON.stringify({
        client: `@aws-sdk/client-sts ${createRequire(import.meta.url)("@aws-sdk/client-sts/package.json").version}`,
        node: process.version,
        region,
        instance_id: instanceId,
        access_key: credentials.accessKeyId,
        found_by: Object.keys(credentials.$source ?? {}).join(" "),
    }),
);
