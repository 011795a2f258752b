//! The arguments of `imdsd instance`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use crate::cli::admin_client::AdminClient;
use crate::cli::output::OutputArgs;
use crate::instance::{BridgePort, InstanceId, SourceAddress};

#[derive(Args)]
#[command(after_help = "\
Examples:
  imdsd instance list
  imdsd instance put web-1.json
  imdsd instance explain --interface tap0")]
pub(crate) struct InstanceArgs {
    #[command(flatten)]
    pub(super) client: AdminClient,
    #[command(subcommand)]
    pub(super) command: InstanceCommand,
}

#[derive(Subcommand)]
pub(super) enum InstanceCommand {
    /// Register or replace instances from documents
    ///
    /// An unknown instance is registered; a known one is replaced by the document. What changes
    /// while an instance runs (metadata options, state, events, overrides) and its attachments stay
    /// as stored if the document does not name them. A document without Imds keeps the stored Imds.
    /// If one document is refused, none is stored.
    #[command(after_help = "\
Examples:
  imdsd instance put web-1.json
  imdsd instance put instances.d/
  aws ec2 describe-instances | imdsd instance put -
  imdsd instance put --relaunch web-1.json   # a new launch: session tokens become invalid")]
    Put(PutArgs),
    /// Register or replace instances from an export; the same as put
    #[command(after_help = "\
Example:
  imdsd instance export --with-secrets > host.json && imdsd instance import host.json")]
    Import(PutArgs),
    /// Give attachments to an instance, and take them from the instances that have them
    ///
    /// The instance has these attachments from now on, and no others. It is one publication: at no
    /// time does an attachment have two instances, or none. For hooks of hypervisors: what they see
    /// start is true, whatever older records say.
    #[command(after_help = "\
Examples:
  imdsd instance claim i-0123456789abcdef0 --interface vnet0 --bind --launch
  imdsd instance claim i-0123456789abcdef0 --interface tap0 --only-free")]
    Claim(ClaimArgs),
    /// Take attachments from an instance, if it still has them
    ///
    /// Without attachments and --claimed-by, it gives up all of them. A release that finds nothing
    /// to do succeeds, also for an instance that does not exist.
    #[command(after_help = "\
Examples:
  imdsd instance release i-0123456789abcdef0 --stop
  imdsd instance release i-0123456789abcdef0 --claimed-by libvirt --launch-time 2026-01-01T00:00:00Z")]
    Release(ReleaseArgs),
    /// Print one instance's document
    #[command(after_help = "\
Example: edit an instance, unless it was changed in the meantime
  imdsd instance get i-0123456789abcdef0 > i.json; edit i.json
  imdsd instance put --generation 7 i.json")]
    Get {
        /// The instance's id, such as i-0123456789abcdef0
        #[arg(value_name = "ID", value_parser = instance_id)]
        id: InstanceId,
        /// Include the secrets of static role credentials [default: left out]
        #[arg(long)]
        with_secrets: bool,
    },
    /// Change metadata options of instances; options that are not named keep their value
    ///
    /// The same as `aws ec2 modify-instance-metadata-options`, without an access key. Guests see the
    /// change with their next request.
    #[command(after_help = "\
Examples:
  imdsd instance set i-0123456789abcdef0 --http-tokens required --hop-limit 1
  imdsd instance set i-0123456789abcdef0 --http-endpoint disabled")]
    Set(SetArgs),
    /// List the instances
    #[command(after_help = "\
Example:
  imdsd instance list --json | jq -r '.Instances[].InstanceId'")]
    List {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Delete instances and their records; their guests are no longer served
    #[command(after_help = "\
Example:
  imdsd instance delete i-0123456789abcdef0

A document that is still in the configured directory registers the instance again at the next start
or reload. If some deletions fail, the others still happen; the exit status is 1.")]
    Delete {
        /// The ids of the instances, such as i-0123456789abcdef0
        #[arg(value_name = "ID", required = true, value_parser = instance_id)]
        ids: Vec<InstanceId>,
        /// Delete only if the instance is at this generation, as shown by list [default: any]
        #[arg(long, value_name = "NUMBER")]
        generation: Option<u64>,
    },
    /// Print the documents of all instances, for import
    ///
    /// With --directory, each file is replaced by a new one that only its owner can read. Other
    /// *.json files in the directory are kept and listed in a warning.
    #[command(after_help = "\
Examples:
  imdsd instance export > host.json
  imdsd instance export --with-secrets --directory backup/")]
    Export {
        /// Write one file for each instance to this directory [default: standard output]
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
        /// Include the secrets of static role credentials [default: left out]
        #[arg(long)]
        with_secrets: bool,
    },
    /// Show which instance an address or interface belongs to, how a request would be answered, and
    /// why
    #[command(after_help = "\
Examples:
  imdsd instance explain --interface tap0
  imdsd instance explain --listener lan --address 10.0.0.5 --token \"$TOKEN\"
  imdsd instance explain --listener demo --method PUT --path /latest/api/token \\
    --header 'X-aws-ec2-metadata-token-ttl-seconds: 60' --header 'X-Forwarded-For: 10.0.0.9'")]
    Explain(ExplainArgs),
}

#[derive(Args)]
pub(super) struct PutArgs {
    /// Documents, directories of *.json, or - for standard input [default: standard input]
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// Launch known instances again: session tokens become invalid, identity documents are signed
    /// again
    #[arg(long)]
    pub(super) relaunch: bool,
    /// Put only if the instance is at this generation, as shown by list [default: any]
    #[arg(long, value_name = "NUMBER")]
    pub(super) generation: Option<u64>,
    /// Bind interfaces and bridge ports to the links that have these names now: a link that gets
    /// the name later is not this instance's
    #[arg(long)]
    pub(super) bind: bool,
    /// Take attachments from the instances that hold them [default: such a document is refused]
    #[arg(long)]
    pub(super) force: bool,
    /// Check everything and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Attachments by their kind.
#[derive(Args)]
pub(super) struct AttachmentArgs {
    /// An interface of the host, such as vnet0; may be repeated
    #[arg(long = "interface", value_name = "NAME")]
    pub(super) interfaces: Vec<String>,
    /// A bridge port with its packet mark, such as br0,vnet2,4097; may be repeated
    #[arg(long = "bridge-port", value_name = "BRIDGE,PORT,MARK", value_parser = bridge_port)]
    pub(super) bridge_ports: Vec<BridgePort>,
    /// A network namespace: its name or path; may be repeated
    #[arg(long = "namespace", value_name = "NAME")]
    pub(super) namespaces: Vec<String>,
    /// A listener of the configuration, such as lan; may be repeated
    #[arg(long = "listener", value_name = "NAME")]
    pub(super) listeners: Vec<String>,
    /// A source address on a listener, such as lan,10.0.0.5; may be repeated
    #[arg(long = "source-address", value_name = "LISTENER,ADDRESS", value_parser = source_address)]
    pub(super) source_addresses: Vec<SourceAddress>,
}

#[derive(Args)]
pub(super) struct ClaimArgs {
    /// The instance's id, such as i-0123456789abcdef0
    #[arg(value_name = "ID", value_parser = instance_id)]
    pub(super) id: InstanceId,
    #[command(flatten)]
    pub(super) attachments: AttachmentArgs,
    /// Keep the attachments that the instance has already
    #[arg(long)]
    pub(super) add: bool,
    /// Bind interfaces and bridge ports to the links that have these names now: a link that gets
    /// the name later is not this instance's
    #[arg(long)]
    pub(super) bind: bool,
    /// The guest boots: start a new launch, session tokens become invalid
    #[arg(long, conflicts_with = "resume")]
    pub(super) launch: bool,
    /// The guest continues, for example after a restore: start without a new launch
    #[arg(long)]
    pub(super) resume: bool,
    /// Claim only what no other instance has
    #[arg(long, conflicts_with = "only_from")]
    pub(super) only_free: bool,
    /// Take attachments from this instance only; may be repeated [default: from any]
    #[arg(long, value_name = "ID", value_parser = instance_id)]
    pub(super) only_from: Vec<InstanceId>,
    /// A word with which these attachments can be released, such as libvirt
    #[arg(long, value_name = "WORD")]
    pub(super) claimed_by: Option<String>,
    /// Claim only if the instance is at this generation, as shown by list [default: any]
    #[arg(long, value_name = "NUMBER")]
    pub(super) generation: Option<u64>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Args)]
pub(super) struct ReleaseArgs {
    /// The instance's id, such as i-0123456789abcdef0
    #[arg(value_name = "ID", value_parser = instance_id)]
    pub(super) id: InstanceId,
    #[command(flatten)]
    pub(super) attachments: AttachmentArgs,
    /// Release only what was claimed with this word, such as libvirt
    #[arg(long, value_name = "WORD")]
    pub(super) claimed_by: Option<String>,
    /// Release only if the instance was launched at this time, as claim prints it
    #[arg(long, value_name = "TIME")]
    pub(super) launch_time: Option<Timestamp>,
    /// Stop the instance, too, unless it keeps attachments
    #[arg(long)]
    pub(super) stop: bool,
    /// Release only if the instance is at this generation, as shown by list [default: any]
    #[arg(long, value_name = "NUMBER")]
    pub(super) generation: Option<u64>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Args)]
pub(super) struct SetArgs {
    /// The ids of the instances, such as i-0123456789abcdef0
    #[arg(value_name = "ID", required = true, value_parser = instance_id)]
    pub(super) ids: Vec<InstanceId>,
    #[command(flatten)]
    pub(super) options: OptionArgs,
    /// Change only if the instance is at this generation, as shown by list [default: any]
    #[arg(long, value_name = "NUMBER")]
    pub(super) generation: Option<u64>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// The metadata options, by EC2's names.
#[derive(Args)]
#[group(required = true, multiple = true)]
pub(super) struct OptionArgs {
    /// Whether reads need a session token: optional or required
    #[arg(long, value_name = "STATE", value_parser = ["optional", "required"])]
    pub(super) http_tokens: Option<String>,
    /// How many hops a token response may travel, 1 to 64
    #[arg(
        long = "hop-limit",
        alias = "http-put-response-hop-limit",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u8).range(1..=64)
    )]
    pub(super) hop_limit: Option<u8>,
    /// Whether the service answers at all: enabled or disabled
    #[arg(long, value_name = "STATE", value_parser = ["enabled", "disabled"])]
    pub(super) http_endpoint: Option<String>,
    /// Whether the service answers on IPv6: enabled or disabled
    #[arg(long, value_name = "STATE", value_parser = ["enabled", "disabled"])]
    pub(super) http_protocol_ipv6: Option<String>,
    /// Whether the instance's tags are in the metadata: enabled or disabled
    #[arg(long, value_name = "STATE", value_parser = ["enabled", "disabled"])]
    pub(super) instance_metadata_tags: Option<String>,
}

#[derive(Args)]
pub(super) struct ExplainArgs {
    /// Explain every attachment of this instance
    #[arg(value_name = "ID", value_parser = instance_id)]
    pub(super) id: Option<InstanceId>,
    /// A listener of the configuration, such as lan
    #[arg(long, value_name = "NAME")]
    pub(super) listener: Option<String>,
    /// An interface of the host: a guest's own, a bridge, or a bridge port, such as tap0
    #[arg(long, value_name = "NAME")]
    pub(super) interface: Option<String>,
    /// With --interface BRIDGE: the packet mark of one port, such as 4097
    #[arg(long, value_name = "NUMBER")]
    pub(super) mark: Option<u32>,
    /// A network namespace: its name or path
    #[arg(long, value_name = "NAME")]
    pub(super) namespace: Option<String>,
    /// The guest's address, such as 10.0.0.5
    #[arg(long, value_name = "ADDRESS")]
    pub(super) address: Option<IpAddr>,
    /// The method of the request
    #[arg(long, default_value = "GET")]
    pub(super) method: String,
    /// The path of the request
    #[arg(long, default_value = "/latest/meta-data/")]
    pub(super) path: String,
    /// A header line of the request, such as 'Host: imds'; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub(super) headers: Vec<(String, String)>,
    /// The session token of the request [default: none]
    #[arg(long)]
    pub(super) token: Option<String>,
    /// Send the request with a body
    #[arg(long)]
    pub(super) body: bool,
    /// Send the request over IPv6 [default: IPv4]
    #[arg(long)]
    pub(super) ipv6: bool,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

fn instance_id(text: &str) -> Result<InstanceId, String> {
    InstanceId::try_from(text.to_string())
}

fn bridge_port(text: &str) -> Result<BridgePort, String> {
    let parts: Vec<&str> = text.split(',').collect();
    let [bridge, port, mark] = parts.as_slice() else {
        return Err("expected BRIDGE,PORT,MARK".to_string());
    };
    Ok(BridgePort {
        bridge: (*bridge).into(),
        port: (*port).into(),
        mark: mark
            .parse()
            .map_err(|_| format!("a mark is a number such as 4097, not '{mark}'"))?,
    })
}

fn source_address(text: &str) -> Result<SourceAddress, String> {
    let (listener, address) = text.split_once(',').ok_or("expected LISTENER,ADDRESS")?;
    Ok(SourceAddress {
        listener: listener.into(),
        address: address
            .parse()
            .map_err(|_| format!("'{address}' is not an IP address"))?,
    })
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    Ok((name.trim().to_string(), value.trim().to_string()))
}
