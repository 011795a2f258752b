//! Which subcommand of `imdsd instance` runs.

use std::process::ExitCode;

use super::args::{InstanceArgs, InstanceCommand};
use super::claim::{claim, release};
use super::explain::explain;
use super::export::export;
use super::manage::{delete, get, list};
use super::put::put;
use super::set::set;
use crate::cli::admin_client;

pub(crate) fn run(InstanceArgs { client, command }: InstanceArgs) -> ExitCode {
    admin_client::exit(match command {
        InstanceCommand::Put(args) | InstanceCommand::Import(args) => put(&client, &args),
        InstanceCommand::Claim(args) => claim(&client, &args),
        InstanceCommand::Release(args) => release(&client, &args),
        InstanceCommand::Get { id, with_secrets } => get(&client, &id, with_secrets),
        InstanceCommand::Set(args) => set(&client, &args),
        InstanceCommand::List { output } => list(&client, &output),
        InstanceCommand::Delete { ids, generation } => delete(&client, &ids, generation),
        InstanceCommand::Export {
            directory,
            with_secrets,
        } => export(&client, directory.as_deref(), with_secrets),
        InstanceCommand::Explain(args) => explain(&client, &args),
    })
}
