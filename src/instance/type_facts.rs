//! What the name of an instance type says about it: processors, memory, architecture.
//!
//! Sources: <https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html> for the
//! names, and the pages of the families there for the values. A family is listed if all its sizes
//! follow one rule. Any other type has no facts here, and is served all the same.

use serde::{Deserialize, Serialize};

/// What is known about an instance type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeFacts {
    /// `x86_64` or `arm64`.
    pub architecture: &'static str,
    /// The virtual processors.
    pub vcpus: u32,
    /// The virtual processors of one core.
    pub threads_per_core: u32,
    /// The memory in MiB.
    pub memory_mib: u32,
    /// Whether EC2 still counts the type to the current generation.
    pub is_current: bool,
    /// What a launch gets without a credit option; `None` for a type without CPU credits.
    pub default_credits: Option<CpuCredits>,
}

/// The credit option of a burstable instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuCredits {
    /// The instance runs at its baseline when its credits are spent.
    Standard,
    /// The instance may go on and is charged for it.
    Unlimited,
}

impl CpuCredits {
    /// Parses EC2's word.
    pub fn parse(word: &str) -> Option<CpuCredits> {
        match word {
            "standard" => Some(CpuCredits::Standard),
            "unlimited" => Some(CpuCredits::Unlimited),
            _ => None,
        }
    }

    /// Returns EC2's word.
    pub fn as_str(self) -> &'static str {
        match self {
            CpuCredits::Standard => "standard",
            CpuCredits::Unlimited => "unlimited",
        }
    }
}

/// Families whose memory is in proportion to their virtual processors.
struct Proportional {
    families: &'static [&'static str],
    architecture: &'static str,
    threads_per_core: u32,
    mib_per_vcpu: u32,
    is_current: bool,
}

const fn row(
    families: &'static [&'static str],
    architecture: &'static str,
    threads_per_core: u32,
    mib_per_vcpu: u32,
    is_current: bool,
) -> Proportional {
    Proportional {
        families,
        architecture,
        threads_per_core,
        mib_per_vcpu,
        is_current,
    }
}

#[rustfmt::skip]
const PROPORTIONAL: [Proportional; 12] = [
    // families, architecture, threads of a core, MiB of a virtual processor, current generation
    row(&["c5", "c5a", "c5ad", "c5d", "c6a", "c6i", "c6id", "c6in", "c7i", "c7i-flex", "c8i"], "x86_64", 2, 2048, true),
    row(&["m5", "m5a", "m5ad", "m5d", "m5dn", "m5n", "m5zn", "m6a", "m6i", "m6id", "m6idn", "m6in", "m7i", "m7i-flex", "m8i"], "x86_64", 2, 4096, true),
    row(&["r5", "r5a", "r5ad", "r5b", "r5d", "r5dn", "r5n", "r6a", "r6i", "r6id", "r6idn", "r6in", "r7i", "r7iz", "r8i"], "x86_64", 2, 8192, true),
    row(&["c7a"], "x86_64", 1, 2048, true),
    row(&["m7a"], "x86_64", 1, 4096, true),
    row(&["r7a"], "x86_64", 1, 8192, true),
    row(&["c6g", "c6gd", "c6gn", "c7g", "c7gd", "c7gn", "c8g"], "arm64", 1, 2048, true),
    row(&["m6g", "m6gd", "m7g", "m7gd", "m8g"], "arm64", 1, 4096, true),
    row(&["r6g", "r6gd", "r7g", "r7gd", "r8g"], "arm64", 1, 8192, true),
    row(&["c4"], "x86_64", 2, 1920, false),
    row(&["m4"], "x86_64", 2, 4096, false),
    row(&["r4"], "x86_64", 2, 7808, false),
];

/// The sizes of burstable types: virtual processors on T2, on later ones, and MiB.
const BURSTABLE_SIZES: [(&str, u32, u32, u32); 7] = [
    ("nano", 1, 2, 512),
    ("micro", 1, 2, 1024),
    ("small", 1, 2, 2048),
    ("medium", 2, 2, 4096),
    ("large", 2, 2, 8192),
    ("xlarge", 4, 4, 16_384),
    ("2xlarge", 8, 8, 32_768),
];

/// Returns what is known about an instance type, such as `m5.large`.
pub fn type_facts(name: &str) -> Option<TypeFacts> {
    let (family, size) = name.split_once('.')?;
    burstable(family, size).or_else(|| proportional(family, size))
}

fn burstable(family: &str, size: &str) -> Option<TypeFacts> {
    let (architecture, threads_per_core) = match family {
        "t2" => ("x86_64", 1),
        "t3" | "t3a" => ("x86_64", 2),
        "t4g" => ("arm64", 1),
        _ => return None,
    };
    let (_, on_t2, later, memory_mib) = BURSTABLE_SIZES
        .into_iter()
        .find(|(known, ..)| *known == size)?;
    let is_t2 = family == "t2";
    Some(TypeFacts {
        architecture,
        vcpus: if is_t2 { on_t2 } else { later },
        threads_per_core,
        memory_mib,
        is_current: true,
        default_credits: Some(match is_t2 {
            true => CpuCredits::Standard,
            false => CpuCredits::Unlimited,
        }),
    })
}

fn proportional(family: &str, size: &str) -> Option<TypeFacts> {
    let row = PROPORTIONAL
        .iter()
        .find(|row| row.families.contains(&family))?;
    let vcpus = match size {
        "medium" if row.threads_per_core == 1 => 1,
        "large" => 2,
        "xlarge" => 4,
        size => {
            let multiple: u32 = size.strip_suffix("xlarge")?.parse().ok()?;
            Some(multiple).filter(|multiple| (2..=64).contains(multiple))? * 4
        }
    };
    Some(TypeFacts {
        architecture: row.architecture,
        vcpus,
        threads_per_core: row.threads_per_core,
        memory_mib: vcpus * row.mib_per_vcpu,
        is_current: row.is_current,
        default_credits: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pages of the families in the instance types guide.
    #[test]
    fn a_types_name_says_its_processors_and_memory() {
        for (name, expected) in [
            ("t2.micro", Some(("x86_64", 1, 1, 1024))),
            ("t2.2xlarge", Some(("x86_64", 8, 1, 32_768))),
            ("t3.micro", Some(("x86_64", 2, 2, 1024))),
            ("t4g.nano", Some(("arm64", 2, 1, 512))),
            ("m5.large", Some(("x86_64", 2, 2, 8192))),
            ("m5.24xlarge", Some(("x86_64", 96, 2, 393_216))),
            ("c5.9xlarge", Some(("x86_64", 36, 2, 73_728))),
            ("r4.large", Some(("x86_64", 2, 2, 15_616))),
            ("m7a.medium", Some(("x86_64", 1, 1, 4096))),
            ("c7gn.16xlarge", Some(("arm64", 64, 1, 131_072))),
            ("m7i-flex.xlarge", Some(("x86_64", 4, 2, 16_384))),
            // Sizes that the family does not have, and families without one rule.
            ("m5.medium", None),
            ("m5.metal", None),
            ("m5.1xlarge", None),
            ("m5.99999999999xlarge", None),
            ("t3.4xlarge", None),
            ("c5n.large", None),
            ("p5.48xlarge", None),
            ("m5", None),
            ("", None),
            (".", None),
            ("m5.-2xlarge", None),
        ] {
            let facts = type_facts(name);
            let shown = facts.map(|facts| {
                let TypeFacts {
                    architecture,
                    vcpus,
                    threads_per_core,
                    memory_mib,
                    ..
                } = facts;
                (architecture, vcpus, threads_per_core, memory_mib)
            });
            assert_eq!(shown, expected, "{name}");
        }
    }

    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/burstable-performance-instances-unlimited-mode-concepts.html>
    #[test]
    fn only_burstable_types_have_credits() {
        for (name, credits) in [
            ("t2.micro", Some(CpuCredits::Standard)),
            ("t3.micro", Some(CpuCredits::Unlimited)),
            ("t4g.large", Some(CpuCredits::Unlimited)),
            ("m5.large", None),
        ] {
            assert_eq!(
                type_facts(name).and_then(|facts| facts.default_credits),
                credits,
                "{name}"
            );
        }
    }
}
