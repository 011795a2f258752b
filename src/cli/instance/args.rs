//! The arguments of `imdsd instance`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::admin_client::AdminClient;
use crate::cli::output::OutputArgs;
use crate::instance::InstanceId;

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
    /// Check everything and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
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

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    Ok((name.trim().to_string(), value.trim().to_string()))
}
