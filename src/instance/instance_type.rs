//! What follows from the name of an instance type.

/// What an instance runs on, as metadata shows it at `system`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HypervisorSystem {
    /// The Nitro system, bare metal included.
    Nitro,
    /// An instance type of the Xen era, which EC2 runs on Nitro hosts today.
    XenOnNitro,
    /// A paravirtual instance, which only Xen can run.
    Xen,
}

impl HypervisorSystem {
    /// Returns the word that metadata shows.
    pub fn as_str(self) -> &'static str {
        match self {
            HypervisorSystem::Nitro => "nitro",
            HypervisorSystem::XenOnNitro => "xen-on-nitro",
            HypervisorSystem::Xen => "xen",
        }
    }
}

/// The families of instance types whose `Hypervisor` is `xen` in EC2's DescribeInstanceTypes, and the
/// older ones that it no longer lists. All others, such as `p3dn`, are built on the Nitro system:
/// <https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-nitro-instances.html>
const XEN_FAMILIES: [&str; 29] = [
    "c1", "c3", "c4", "cc1", "cc2", "cg1", "cr1", "d2", "f1", "g2", "g3", "g3s", "h1", "hi1",
    "hs1", "i2", "i3", "m1", "m2", "m3", "m4", "p2", "p3", "r3", "r4", "t1", "t2", "x1", "x1e",
];

/// Returns whether an instance type is of the Xen era. Unknown types are of the Nitro system.
pub fn is_xen_type(instance_type: &str) -> bool {
    let (family, size) = instance_type.split_once('.').unwrap_or((instance_type, ""));
    // Bare metal is always of the Nitro system: i3.metal.
    XEN_FAMILIES.contains(&family) && !size.starts_with("metal")
}

/// Returns what an instance runs on. `nitro` and `xen-on-nitro` were observed on EC2; `xen` is
/// presumed for paravirtual instances.
pub(super) fn system_of(virtualization_type: &str, instance_type: &str) -> HypervisorSystem {
    match virtualization_type {
        "paravirtual" => HypervisorSystem::Xen,
        _ if is_xen_type(instance_type) => HypervisorSystem::XenOnNitro,
        _ => HypervisorSystem::Nitro,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_follows_from_virtualization_and_family() {
        use HypervisorSystem::{Nitro, Xen, XenOnNitro};
        for (virtualization, instance_type, system) in [
            ("hvm", "m5.large", Nitro),
            ("hvm", "c6g.large", Nitro),
            ("hvm", "t3.micro", Nitro),
            ("hvm", "p3dn.24xlarge", Nitro),
            ("hvm", "i3en.large", Nitro),
            ("hvm", "i3.metal", Nitro),
            ("hvm", "u-6tb1.metal", Nitro),
            ("hvm", "unknown", Nitro),
            ("hvm", "t2.micro", XenOnNitro),
            ("hvm", "i3.large", XenOnNitro),
            ("hvm", "x1e.xlarge", XenOnNitro),
            ("paravirtual", "m1.small", Xen),
            ("paravirtual", "m3.medium", Xen),
        ] {
            assert_eq!(
                system_of(virtualization, instance_type),
                system,
                "{virtualization} {instance_type}"
            );
        }
    }
}
