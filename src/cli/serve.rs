//! `imdsd serve`, which is also plain `imdsd`.

use std::net::{Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use crate::config::{self, Config, LogFormat, LogLevel};
use crate::control::AccessKeys;
use crate::daemon::{Daemon, StartError, documents};
use crate::document;
use crate::document::aemm;
use crate::fault::Fault;
use crate::guest::tree;
use crate::instance::{Attachment, Instance, InstanceState};
use crate::logging;

#[derive(Args)]
pub struct Arguments {
    /// Configuration file; see config/imdsd.toml for every setting
    #[arg(long, short, value_name = "FILE", conflicts_with = "instance")]
    config: Option<PathBuf>,

    /// Serve this instance document on the demo's addresses, in place of the demo instance
    ///
    /// The document is one instance as `aws ec2 describe-instances` prints it.
    #[arg(long, short, value_name = "FILE")]
    instance: Option<PathBuf>,

    /// Serve what this configuration of amazon-ec2-metadata-mock comes to, on its port, in place of the demo instance
    ///
    /// Its events happen as the mock's would, counted from the start, and `imdsd event` lets more happen. The EC2 API
    /// is on the next port.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "instance"])]
    aemm_config: Option<PathBuf>,

    /// The command of the mock whose events happen [default: as without a command, spot and events]
    #[arg(long, value_name = "COMMAND", requires = "aemm_config")]
    aemm_command: Option<CommandArgument>,

    /// The form of log lines on standard error [default: text, or as configured]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<FormatArgument>,

    /// How much is logged [default: info, or as configured]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<LevelArgument>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatArgument {
    Text,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum CommandArgument {
    #[value(alias = "spotitn")]
    Spot,
    #[value(aliases = ["scheduledevents", "se"])]
    Events,
    #[value(aliases = ["autoscaling", "asg"])]
    Asglifecycle,
}

#[derive(Clone, Copy, ValueEnum)]
enum LevelArgument {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How long threads that read files may take to end.
const STRAGGLERS: Duration = Duration::from_secs(2);

pub fn run(arguments: Arguments) -> ExitCode {
    let is_demo = arguments.config.is_none();
    let (config, instances, warnings) = match settings(&arguments) {
        Ok(settings) => settings,
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            return ExitCode::FAILURE;
        }
    };
    logging::start(
        arguments
            .log_format
            .map_or(config.log.format, FormatArgument::format),
        arguments
            .log_level
            .map_or(config.log.level, LevelArgument::level),
    );
    for warning in warnings {
        tracing::warn!("{warning}");
    }

    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::System);
    let served = served.and_then(|runtime| {
        let served = runtime.block_on(async {
            let first = instances.first().cloned();
            let (listeners, has_state) =
                (config.listeners.clone(), config.state_directory.is_some());
            let daemon = Daemon::start(config, instances).await?;
            if let (true, Some(instance), Some(address)) =
                (is_demo, first, daemon.control_address())
            {
                let guest = listeners[0].ipv4.expect("the demo listens on IPv4");
                greet(
                    &instance,
                    guest.into(),
                    address,
                    has_state,
                    daemon.has_admin(),
                );
            }
            daemon.serve().await
        });
        // A file on a dead disk may keep a thread busy for ever.
        runtime.shutdown_timeout(STRAGGLERS);
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("imdsd: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration, the documents, and what is odd about them.
fn settings(arguments: &Arguments) -> Result<(Config, Vec<Instance>, Vec<String>), Vec<Fault>> {
    if let Some(file) = &arguments.config {
        let checked = documents::check(file)?;
        let warnings = checked.warnings.iter().map(ToString::to_string).collect();
        return Ok((checked.config, checked.instances, warnings));
    }
    if let Some(file) = &arguments.aemm_config {
        let command = arguments
            .aemm_command
            .map_or(aemm::MockCommand::All, CommandArgument::command);
        return of_mock(file, aemm::read(file, command, Timestamp::now())?);
    }
    let mut config = Config::demo();
    config.admin = super::admin_client::place_for_demo();
    let demo = Attachment::Listener(config.listeners[0].name.clone());
    let instances = match &arguments.instance {
        None => vec![config::demo_instance()],
        Some(file) => {
            let mut instances = document::read_path(file)?;
            if instances.len() != 1 {
                let several = format!(
                    "one instance can be served here, not {}; more need a configuration (--config)",
                    instances.len()
                );
                return Err(vec![Fault::of_file(file, several)]);
            }
            let faults = tree::faults(&instances[0]).into_iter();
            let faults: Vec<_> = faults.map(|fault| fault.in_file(file, 0)).collect();
            if !faults.is_empty() {
                return Err(faults);
            }
            let state = instances[0].state;
            if !matches!(state, InstanceState::Pending | InstanceState::Running) {
                let said = format!(
                    "State: the instance is {}, so nobody would be answered; make it running",
                    state.as_str()
                );
                return Err(vec![Fault::of_file(file, said)]);
            }
            instances[0].imds.attachments = vec![demo];
            instances
        }
    };
    Ok((config, instances, Vec::new()))
}

/// The demo's configuration with the mock's address and port.
fn of_mock(
    file: &Path,
    mock: aemm::Mock,
) -> Result<(Config, Vec<Instance>, Vec<String>), Vec<Fault>> {
    let aemm::Mock {
        mut instance,
        address,
        port,
        mut warnings,
    } = mock;
    let faults = tree::faults(&instance).into_iter();
    let faults: Vec<_> = faults.map(|fault| fault.in_file(file, 0)).collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut config = Config::demo();
    config.admin = super::admin_client::place_for_demo();
    let listener = &mut config.listeners[0];
    listener.ipv4 = Some(SocketAddrV4::new(address, port));
    listener.ipv6 = Some(SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0));
    instance.imds.attachments = vec![Attachment::Listener(listener.name.clone())];
    match (&mut config.control, port.checked_add(1)) {
        (Some(control), Some(next)) => control.listen.set_port(next),
        _ => {
            config.control = None;
            let message = "is the last one, so there is no EC2 API beside it";
            warnings.push(Fault {
                field: "server.port".to_string(),
                ..Fault::of_file(file, message)
            });
        }
    }
    Ok((
        config,
        vec![instance],
        warnings.iter().map(ToString::to_string).collect(),
    ))
}

/// What a newcomer pastes next.
fn greet(
    instance: &Instance,
    guest: std::net::SocketAddr,
    control: std::net::SocketAddr,
    has_state: bool,
    has_admin: bool,
) {
    let id = &instance.instance_id;
    let region = instance.region();
    let (access_key_id, secret) = AccessKeys::DEMO;
    println!("imdsd serves {id} on http://{guest}, and the EC2 API on http://{control}.");
    if !has_state {
        println!("Changes last until it ends; a configuration (--config) keeps them.");
    }
    println!("\n# A token, and a read with it:");
    println!(
        "TOKEN=$(curl -sX PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 21600' http://{guest}/latest/api/token) && \
         curl -sH \"X-aws-ec2-metadata-token: $TOKEN\" http://{guest}/latest/meta-data/instance-id"
    );
    println!("\n# Any AWS SDK or the AWS CLI, with the role's credentials:");
    println!("AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{guest} aws configure list");
    println!("\n# The options, changed while guests read:");
    println!(
        "AWS_ACCESS_KEY_ID={access_key_id} AWS_SECRET_ACCESS_KEY={secret} aws ec2 modify-instance-metadata-options \
         --endpoint-url http://{control} --region {region} --instance-id {id} --http-tokens optional"
    );
    if has_admin {
        let program = std::env::args().next().unwrap_or("imdsd".to_string());
        println!(
            "\n# A spot interruption that the guest is told of in five seconds, and what else an operator may do:"
        );
        println!("{program} event spot --in 5s; {program} instance --help");
    }
}

impl FormatArgument {
    fn format(self) -> LogFormat {
        match self {
            FormatArgument::Text => LogFormat::Text,
            FormatArgument::Json => LogFormat::Json,
        }
    }
}

impl CommandArgument {
    fn command(self) -> aemm::MockCommand {
        match self {
            CommandArgument::Spot => aemm::MockCommand::Spot,
            CommandArgument::Events => aemm::MockCommand::Events,
            CommandArgument::Asglifecycle => aemm::MockCommand::AsgLifecycle,
        }
    }
}

impl LevelArgument {
    fn level(self) -> LogLevel {
        match self {
            LevelArgument::Error => LogLevel::Error,
            LevelArgument::Warn => LogLevel::Warn,
            LevelArgument::Info => LogLevel::Info,
            LevelArgument::Debug => LogLevel::Debug,
            LevelArgument::Trace => LogLevel::Trace,
        }
    }
}
