// Calls the EC2 API with the AWS SDK for JavaScript v2, which does not sign content-type. Each input
// line is a call as JSON; each output line is its result or error code. The only argument is the
// endpoint; no other address is contacted.

import { createInterface } from "node:readline";

process.env.AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE = "1";
const { default: AWS } = await import("aws-sdk");

const settings = {
    endpoint: process.argv[2],
    region: "us-east-1",
    credentials: new AWS.Credentials(process.env.AWS_ACCESS_KEY_ID, process.env.AWS_SECRET_ACCESS_KEY),
};
const services = {
    ec2: new AWS.EC2(settings),
    sts: new AWS.STS(settings),
    "ec2-instance-connect": new AWS.EC2InstanceConnect(settings),
};

for await (const line of createInterface({ input: process.stdin })) {
    const { service, action, input } = JSON.parse(line);
    const method = action[0].toLowerCase() + action.slice(1);
    try {
        const result = await services[service][method](input).promise();
        console.log(JSON.stringify({ result }));
    } catch (error) {
        console.log(JSON.stringify({ error: error.code, message: error.message }));
    }
}
