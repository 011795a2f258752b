//! `imdsd serve`, which is also plain `imdsd`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::demo::{self, Demo};
use super::demo_addresses::DemoAddresses;
use crate::clock::Moment;
use crate::config::{self, Config, LogFormat, LogLevel};
use crate::daemon::documents::{self, CheckedDocuments};
use crate::daemon::{self, Daemon, StartError};
use crate::document::aemm::{self, MockCommand};
use crate::fault::Fault;
use crate::instance::Instance;
use crate::logging;

#[derive(Args)]
#[command(after_help = "\
Examples:
  imdsd serve --config /etc/imdsd/imdsd.toml
  imdsd serve --instance web-1.json --listen 8080   # the EC2 API is on the next port
  imdsd serve --aemm-config aemm-config.json --aemm-command spot")]
pub(super) struct ServeArgs {
    /// Configuration file, such as /etc/imdsd/imdsd.toml; config/imdsd.toml describes every setting
    /// [default: serve the demo instance]
    #[arg(long, short, value_name = "FILE", conflicts_with = "instance")]
    config: Option<PathBuf>,

    /// Serve this instance document on the demo's addresses instead of the demo instance
    ///
    /// The document describes one instance, as printed by `aws ec2 describe-instances`; for example,
    /// config/instances/web-1.json.
    #[arg(long, short, value_name = "FILE")]
    instance: Option<PathBuf>,

    /// Serve what this configuration of amazon-ec2-metadata-mock describes, on its port
    ///
    /// Its events take effect as the mock's would, counted from the start, and `imdsd event` injects
    /// more. The EC2 API is on the next port.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "instance"])]
    aemm_config: Option<PathBuf>,

    /// The command of the mock whose events take effect [default: all of them, as the mock without
    /// a command]
    #[arg(long, value_name = "COMMAND", requires = "aemm_config")]
    aemm_command: Option<MockCommandArg>,

    #[command(flatten)]
    demo_addresses: DemoAddresses,

    /// The format of log lines on standard error, such as json [default: text, or as configured]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormatArg>,

    /// The least severe level that is logged, such as debug [default: info, or as configured]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<LogLevelArg>,

    /// Whether ordinary requests of guests are answered without an HTTP library; both paths give the
    /// same answers, so turn it off only to find out which path has a fault
    #[arg(
        long,
        value_name = "WHETHER",
        env = "IMDSD_FAST_PATH",
        default_value = "on"
    )]
    fast_path: FastPathArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormatArg {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FastPathArg {
    On,
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
enum MockCommandArg {
    #[value(alias = "spotitn")]
    Spot,
    #[value(aliases = ["scheduledevents", "se"])]
    Events,
    #[value(aliases = ["autoscaling", "asg"])]
    Asglifecycle,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogLevelArg {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How long threads that still read or write files may take to end. A failed disk may block one for
/// ever, and a change that is not in force yet is given up.
const BLOCKED_THREADS: Duration = Duration::from_millis(300);

/// What to serve.
struct ServeSettings {
    config: Config,
    /// The demo's instance; `None` if the instances come from the documents of the configuration.
    demo: Option<Instance>,
    warnings: Vec<Fault>,
}

pub(super) fn run(args: ServeArgs) -> ExitCode {
    // Before anything secret is read: keys and credentials in this process's memory must not reach a
    // core file, nor a debugger of the same user.
    if let Err(reason) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        eprintln!("imdsd: cannot turn off core dumps (prctl, PR_SET_DUMPABLE): {reason}");
        return ExitCode::FAILURE;
    }
    let mut settings = match settings(&args) {
        Ok(settings) => settings,
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            return ExitCode::FAILURE;
        }
    };
    settings.config.guest.fast_path = args.fast_path == FastPathArg::On;
    let log = &settings.config.log;
    logging::start(
        args.log_format.map_or(log.format, LogFormatArg::format),
        args.log_level.map_or(log.level, LogLevelArg::level),
    );
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    match serve(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("imdsd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: ServeSettings) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::System)?;
    let served = runtime.block_on(start_and_serve(settings));
    runtime.shutdown_timeout(BLOCKED_THREADS);
    served
}

async fn start_and_serve(settings: ServeSettings) -> Result<(), StartError> {
    let ServeSettings { config, demo, .. } = settings;
    let has_state = config.state_directory.is_some();
    let guest = config.listeners.first().and_then(|listener| listener.ipv4);
    let given = demo
        .clone()
        .map(|instance| CheckedDocuments::of(vec![instance]));
    let announce = |daemon: &Daemon| {
        if let (Some(instance), Some(guest), Some(control)) =
            (&demo, guest, daemon.control_address())
        {
            let has_admin = daemon.has_admin();
            demo::print_commands(instance, guest.into(), control, has_state, has_admin);
        }
    };
    daemon::run(config, given, announce).await
}

/// Reads the configuration, or sets up a demo. Faults of the files that the configuration names do
/// not prevent a start; if the configuration itself has some, theirs are reported too.
fn settings(args: &ServeArgs) -> Result<ServeSettings, Vec<Fault>> {
    if let Some(file) = &args.config {
        let config = match config::read(file) {
            Ok(config) => config,
            Err(faults) => return Err(documents::check(file).err().unwrap_or(faults)),
        };
        return Ok(ServeSettings {
            config,
            demo: None,
            warnings: Vec::new(),
        });
    }
    let mut demo = match (&args.aemm_config, &args.instance) {
        (Some(file), _) => {
            let command = args.aemm_command;
            let command = command.map_or(MockCommand::All, MockCommandArg::command);
            Demo::of_mock(file, aemm::read(file, command, Moment::now().wall)?)?
        }
        (None, Some(file)) => Demo::of_document(file)?,
        (None, None) => Demo::built_in(),
    };
    args.demo_addresses.apply(&mut demo);
    Ok(ServeSettings {
        config: demo.config,
        demo: Some(demo.instance),
        warnings: demo.warnings,
    })
}

impl LogFormatArg {
    fn format(self) -> LogFormat {
        match self {
            LogFormatArg::Text => LogFormat::Text,
            LogFormatArg::Json => LogFormat::Json,
        }
    }
}

impl MockCommandArg {
    fn command(self) -> MockCommand {
        match self {
            MockCommandArg::Spot => MockCommand::Spot,
            MockCommandArg::Events => MockCommand::Events,
            MockCommandArg::Asglifecycle => MockCommand::AsgLifecycle,
        }
    }
}

impl LogLevelArg {
    fn level(self) -> LogLevel {
        match self {
            LogLevelArg::Error => LogLevel::Error,
            LogLevelArg::Warn => LogLevel::Warn,
            LogLevelArg::Info => LogLevel::Info,
            LogLevelArg::Debug => LogLevel::Debug,
            LogLevelArg::Trace => LogLevel::Trace,
        }
    }
}
