//! EC2's partitions: the separate clouds with their own accounts, ARNs and domains.

/// A partition: what ARNs in it begin with, and where its endpoints are.
#[derive(Debug, PartialEq, Eq)]
pub struct Partition {
    /// The second part of its ARNs, such as `aws-cn`.
    pub id: &'static str,
    /// The domain of its endpoints.
    pub domain: &'static str,
    /// What the names of its regions begin with.
    regions: &'static [&'static str],
}

/// The partitions and their regions as the SDKs know them (`partitions.json` of botocore, `endpoints`
/// of the AWS SDK for JavaScript). The first one has every other region, as in the SDKs.
const PARTITIONS: [Partition; 8] = [
    partition("aws", "amazonaws.com", &[]),
    partition("aws-cn", "amazonaws.com.cn", &["cn-"]),
    partition("aws-us-gov", "amazonaws.com", &["us-gov-"]),
    partition("aws-iso", "c2s.ic.gov", &["us-iso-"]),
    partition("aws-iso-b", "sc2s.sgov.gov", &["us-isob-"]),
    partition("aws-iso-e", "cloud.adc-e.uk", &["eu-isoe-"]),
    partition("aws-iso-f", "csp.hci.ic.gov", &["us-isof-"]),
    partition("aws-eusc", "amazonaws.eu", &["eusc-"]),
];

const fn partition(
    id: &'static str,
    domain: &'static str,
    regions: &'static [&'static str],
) -> Partition {
    Partition {
        id,
        domain,
        regions,
    }
}

impl Partition {
    /// Returns the partition of a region; `aws` if no other has it.
    pub fn of_region(region: &str) -> &'static Partition {
        let has_region = |partition: &&Partition| {
            let mut prefixes = partition.regions.iter();
            prefixes.any(|prefix| region.starts_with(prefix))
        };
        PARTITIONS.iter().find(has_region).unwrap_or(&PARTITIONS[0])
    }

    /// Returns the ARN of a resource of IAM, which belongs to no region: `user/NAME`,
    /// `instance-profile/NAME`.
    pub fn iam_arn(&self, account: &str, resource: &str) -> String {
        format!("arn:{}:iam::{account}:{resource}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regions of each partition from `partitions.json`. `tests/clients` compares all regions of the
    /// installed botocore.
    #[test]
    fn a_region_belongs_to_its_partition() {
        for (region, id, domain) in [
            ("us-east-1", "aws", "amazonaws.com"),
            ("eu-central-2", "aws", "amazonaws.com"),
            ("mx-central-1", "aws", "amazonaws.com"),
            ("basement", "aws", "amazonaws.com"),
            ("", "aws", "amazonaws.com"),
            ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
            ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
            ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
            ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
            ("eu-isoe-west-1", "aws-iso-e", "cloud.adc-e.uk"),
            ("us-isof-south-1", "aws-iso-f", "csp.hci.ic.gov"),
            ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
        ] {
            let partition = Partition::of_region(region);
            assert_eq!((partition.id, partition.domain), (id, domain), "{region}");
        }
        assert_eq!(
            Partition::of_region("cn-north-1").iam_arn("111122223333", "user/ops"),
            "arn:aws-cn:iam::111122223333:user/ops"
        );
    }
}
