// Posts one call of the EC2 API as a form with aws4fetch, which does not sign content-type. Prints the
// status and the body. The only argument is the endpoint; no other address is contacted.

import { AwsClient } from "aws4fetch";

const client = new AwsClient({
    accessKeyId: process.env.AWS_ACCESS_KEY_ID,
    secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
    region: "us-east-1",
    service: "ec2",
    retries: 0,
});
const answer = await client.fetch(process.argv[2], {
    method: "POST",
    headers: { "Content-Type": "application/x-www-form-urlencoded" },
    body: "Action=DescribeInstances&Version=2016-11-15",
});
console.log(answer.status, await answer.text());
