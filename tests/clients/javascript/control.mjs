// Calls the EC2 API with the AWS SDK for JavaScript v3. Each input line is a call as JSON; each output
// line is its result or error code. The only argument is the endpoint; no other address is contacted.

import { createInterface } from "node:readline";

import * as ec2 from "@aws-sdk/client-ec2";
import * as connect from "@aws-sdk/client-ec2-instance-connect";
import * as sts from "@aws-sdk/client-sts";

const settings = {
    endpoint: process.argv[2],
    region: "us-east-1",
    credentials: { accessKeyId: process.env.AWS_ACCESS_KEY_ID, secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY },
};
const services = {
    ec2: [ec2, new ec2.EC2Client(settings)],
    sts: [sts, new sts.STSClient(settings)],
    "ec2-instance-connect": [connect, new connect.EC2InstanceConnectClient(settings)],
};

for await (const line of createInterface({ input: process.stdin })) {
    const { service, action, input } = JSON.parse(line);
    const [module, client] = services[service];
    // This SDK takes times as Date objects.
    if (input.NotBefore) input.NotBefore = new Date(input.NotBefore);
    try {
        const { $metadata, ...result } = await client.send(new module[`${action}Command`](input));
        console.log(JSON.stringify({ result }));
    } catch (error) {
        console.log(JSON.stringify({ error: error.name, message: error.message }));
    }
}
