//! The command line: one file for each subcommand. Without a subcommand it serves.

mod admin_client;
mod bench;
mod check;
mod command;
mod credential_program;
mod demo;
mod demo_addresses;
mod demo_socket;
mod event;
mod generate;
mod guest_rules;
mod host_attachments;
mod identity;
mod instance;
mod known_instances;
mod listeners;
mod output;
mod progress;
mod reload;
mod rules_table;
mod serve;
mod status;
mod verify;

pub use command::run;
