//! DescribeInstanceTypes: the types of instances, and any type that a call names and whose facts
//! are known. EC2 lists all types that it has; imdsd has no such list.
//!
//! The values are those of the type's name (`type_facts.rs`). For a type that it does not know,
//! they are what the documents say: the architecture.

use std::sync::Arc;

use crate::control::action::Action;
use crate::control::error::Code;
use crate::control::filters::{FilterValues, Filterable, one, optional};
use crate::control::resource_list::{ListedResource, Name, NotFound, ResourceList};
use crate::control::xml::Xml;
use crate::instance::{Tag, TypeFacts, is_xen_type, type_facts};
use crate::registry::Entry;

/// The input of a call.
pub(super) type DescribeInstanceTypes = ResourceList<KnownType>;

/// An instance type.
pub(in crate::control) struct KnownType {
    name: String,
    architecture: String,
    facts: Option<TypeFacts>,
}

impl KnownType {
    fn new(name: &str, architecture: &str) -> KnownType {
        let facts = type_facts(name);
        KnownType {
            name: name.to_string(),
            architecture: facts
                .map_or(architecture, |facts| facts.architecture)
                .to_string(),
            facts,
        }
    }

    /// Returns a value that only the facts have.
    fn fact<V: ToString>(&self, value: impl Fn(&TypeFacts) -> V) -> Vec<String> {
        optional(&self.facts.as_ref().map(value))
    }

    fn is_burstable(&self) -> bool {
        self.facts
            .is_some_and(|facts| facts.default_credits.is_some())
    }

    fn is_bare_metal(&self) -> bool {
        self.name
            .split_once('.')
            .is_some_and(|(_, size)| size.starts_with("metal"))
    }

    /// Returns the hypervisor; bare metal has none.
    fn hypervisor(&self) -> Option<&'static str> {
        let hypervisor = if is_xen_type(&self.name) {
            "xen"
        } else {
            "nitro"
        };
        Some(hypervisor).filter(|_| !self.is_bare_metal())
    }
}

fn cores(facts: &TypeFacts) -> u32 {
    facts.vcpus.div_ceil(facts.threads_per_core)
}

impl Filterable for KnownType {
    const TAGS: Option<fn(&Self) -> &[Tag]> = None;
    const FILTERS: &'static [(&'static str, FilterValues<Self>)] = &[
        ("bare-metal", |kind| one(kind.is_bare_metal())),
        ("burstable-performance-supported", |kind| {
            one(kind.is_burstable())
        }),
        ("current-generation", |kind| {
            kind.fact(|facts| facts.is_current)
        }),
        ("hypervisor", |kind| optional(&kind.hypervisor())),
        ("instance-type", |kind| one(&kind.name)),
        ("memory-info.size-in-mib", |kind| {
            kind.fact(|facts| facts.memory_mib)
        }),
        ("processor-info.supported-architecture", |kind| {
            one(&kind.architecture)
        }),
        ("vcpu-info.default-cores", |kind| kind.fact(cores)),
        ("vcpu-info.default-threads-per-core", |kind| {
            kind.fact(|facts| facts.threads_per_core)
        }),
        ("vcpu-info.default-vcpus", |kind| {
            kind.fact(|facts| facts.vcpus)
        }),
    ];
}

impl ListedResource for KnownType {
    const ACTION: Action = Action::DescribeInstanceTypes;
    const NAMES: &'static [Name<Self>] = &[Name {
        parameter: "InstanceType",
        of: |kind| kind.name.clone(),
        unknown: NotFound {
            code: Code::InvalidInstanceType,
            message: "The following supplied instance types do not exist: [{}]",
        },
    }];
    const SET: &'static str = "instanceTypeSet";
    // Every type is supported, so the flag changes nothing.
    const FLAG: Option<&'static str> = Some("IncludeUnsupportedInRegion");

    fn of(entry: &Arc<Entry>) -> Vec<Self> {
        let instance = &entry.instance;
        vec![KnownType::new(
            &instance.instance_type,
            &instance.architecture,
        )]
    }

    fn unreferenced(name: &str) -> Option<Self> {
        type_facts(name).map(|facts| KnownType::new(name, facts.architecture))
    }

    fn key(&self) -> String {
        self.name.clone()
    }

    fn write(&self, xml: &mut Xml, _flag: bool) {
        let list = |xml: &mut Xml, name: &str, words: &[&str]| {
            xml.element(name, |xml| {
                words.iter().for_each(|word| xml.text("item", word))
            });
        };
        xml.text("instanceType", &self.name);
        xml.optional(
            "currentGeneration",
            self.facts.map(|facts| facts.is_current),
        );
        list(xml, "supportedUsageClasses", &["on-demand", "spot"]);
        list(xml, "supportedRootDeviceTypes", &["ebs"]);
        list(xml, "supportedVirtualizationTypes", &["hvm"]);
        xml.text("bareMetal", self.is_bare_metal());
        xml.optional("hypervisor", self.hypervisor());
        xml.element("processorInfo", |xml| {
            list(xml, "supportedArchitectures", &[&self.architecture]);
        });
        if let Some(facts) = &self.facts {
            xml.element("vCpuInfo", |xml| {
                xml.text("defaultVCpus", facts.vcpus);
                xml.text("defaultCores", cores(facts));
                xml.text("defaultThreadsPerCore", facts.threads_per_core);
            });
            xml.element("memoryInfo", |xml| xml.text("sizeInMiB", facts.memory_mib));
            xml.element("networkInfo", |xml| {
                xml.text("ipv6Supported", true);
                let is_required = !is_xen_type(&self.name);
                let ena = if is_required { "required" } else { "supported" };
                xml.text("enaSupport", ena);
            });
        }
        xml.text("burstablePerformanceSupported", self.is_burstable());
    }
}
