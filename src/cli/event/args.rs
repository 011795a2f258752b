//! The arguments of `imdsd event`.

use std::num::NonZero;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use super::parse::{fault_path, instance_id, share, tag, time, when, word};
use crate::cli::admin_client::AdminClient;
use crate::cli::output::OutputArgs;
use crate::instance::InstanceId;
use crate::instance::events::injected_fault::FaultPath;
use crate::instance::events::request::{EventDuration, EventTime, TagTarget};
use crate::instance::events::{MaintenanceCode, SpotAction, TargetLifecycleState};

#[derive(Args)]
#[command(after_help = "\
Examples:
  imdsd event spot --in 5s
  imdsd event maintenance system-reboot --not-before 168h --tag team=web
  imdsd event play config/scenarios/spot-interruption.json
  imdsd event clear

Times: --in 5s, --in 2m30s, --at 2026-06-01T10:00:00Z [default: now].
Targets: --instance ID, --tag KEY=VALUE or --all [default: the only instance of the host].")]
pub(crate) struct EventArgs {
    #[command(flatten)]
    pub(super) client: AdminClient,
    #[command(subcommand)]
    pub(super) command: EventCommand,
}

#[derive(Subcommand)]
pub(super) enum EventCommand {
    /// Announce a spot interruption, preceded by a rebalance recommendation
    #[command(after_help = "\
Examples:
  imdsd event spot --in 5s --instance i-0123456789abcdef0
  imdsd event spot --action stop --time 10m   # the notice appears two minutes before")]
    Spot {
        /// What EC2 will do with the instance
        #[arg(long, value_name = "ACTION", default_value = "terminate", value_parser = word::<SpotAction>)]
        action: SpotAction,
        /// When it happens: a duration after the notice, such as 10m, or a time [default: two minutes
        /// after the notice]
        #[arg(long, value_name = "WHEN", value_parser = when)]
        time: Option<EventTime>,
        /// How long before the notice the rebalance recommendation appears, such as 5m [default: 2m,
        /// or at once if the notice is nearer]
        #[arg(long, value_name = "DURATION", conflicts_with = "no_rebalance")]
        rebalance_before: Option<EventDuration>,
        /// Announce no rebalance recommendation
        #[arg(long)]
        no_rebalance: bool,
        #[command(flatten)]
        injection: InjectionArgs,
    },
    /// Announce a rebalance recommendation alone
    #[command(after_help = "\
Example:
  imdsd event rebalance --all")]
    Rebalance {
        #[command(flatten)]
        injection: InjectionArgs,
    },
    /// Announce a scheduled maintenance event
    #[command(after_help = "\
Examples:
  imdsd event maintenance system-reboot --not-before 168h
  imdsd event maintenance instance-retirement --not-before 2026-06-01T10:00:00Z --in 1m")]
    Maintenance {
        /// instance-reboot, system-reboot, system-maintenance, instance-retirement or instance-stop
        #[arg(value_name = "CODE", value_parser = word::<MaintenanceCode>)]
        code: MaintenanceCode,
        /// The earliest start: a duration after the announcement, such as 168h, or a time
        #[arg(long, value_name = "WHEN", value_parser = when)]
        not_before: EventTime,
        /// The latest end: a duration or a time [default: none]
        #[arg(long, value_name = "WHEN", value_parser = when)]
        not_after: Option<EventTime>,
        /// The latest start that ModifyInstanceEventStartTime may set: a duration or a time [default:
        /// the start cannot be changed]
        #[arg(long, value_name = "WHEN", value_parser = when)]
        not_before_deadline: Option<EventTime>,
        /// The description of the event [default: EC2's text for the code]
        #[arg(long)]
        description: Option<String>,
        /// The id of the event: instance-event- and 17 hexadecimal digits [default: random]
        #[arg(long, value_name = "ID")]
        event_id: Option<String>,
        #[command(flatten)]
        injection: InjectionArgs,
    },
    /// Complete a scheduled event and move it to the history
    #[command(after_help = "\
Example:
  imdsd event complete instance-event-0123456789abcdef0 --in 1m")]
    Complete {
        /// The id of the event, as shown by imdsd event list
        #[arg(value_name = "EVENT_ID")]
        event_id: String,
        #[command(flatten)]
        injection: InjectionArgs,
    },
    /// Cancel a scheduled event and move it to the history
    #[command(after_help = "\
Example:
  imdsd event cancel instance-event-0123456789abcdef0")]
    Cancel {
        /// The id of the event, as shown by imdsd event list
        #[arg(value_name = "EVENT_ID")]
        event_id: String,
        #[command(flatten)]
        injection: InjectionArgs,
    },
    /// Set the target lifecycle state of an Auto Scaling instance
    #[command(after_help = "\
Example:
  imdsd event lifecycle Terminated --in 30s")]
    Lifecycle {
        /// InService, Standby, Terminated, Detached or Warmed:…
        #[arg(value_name = "STATE", value_parser = word::<TargetLifecycleState>)]
        state: TargetLifecycleState,
        #[command(flatten)]
        injection: InjectionArgs,
    },
    /// Override one value of the metadata tree, or hide it
    #[command(after_help = "\
Examples:
  imdsd event set meta-data/ancestor-ami-ids ami-0123456789abcdef0
  imdsd event set meta-data/public-ipv4 --absent --in 10s")]
    Set {
        /// The path below the version, such as meta-data/ancestor-ami-ids
        #[arg(value_name = "PATH")]
        path: String,
        /// The value to serve there
        #[arg(
            value_name = "VALUE",
            required_unless_present = "absent",
            conflicts_with = "absent"
        )]
        value: Option<String>,
        /// Answer 404 there
        #[arg(long)]
        absent: bool,
        #[command(flatten)]
        injection: InjectionArgs,
    },
    /// Remove the override of a path that `set` made
    #[command(after_help = "\
Example:
  imdsd event restore meta-data/ancestor-ami-ids")]
    Restore {
        /// The path below the version, such as meta-data/ancestor-ami-ids
        #[arg(value_name = "PATH")]
        path: String,
        #[command(flatten)]
        injection: InjectionArgs,
    },
    /// Cancel announced and scheduled events
    #[command(after_help = "\
Examples:
  imdsd event clear --all
  imdsd event clear spot rebalance --tag team=web")]
    Clear {
        /// The kinds to cancel [default: all kinds except overrides]
        #[arg(value_name = "KIND", ignore_case = true)]
        kinds: Vec<KindArg>,
        #[command(flatten)]
        injection: InjectionArgs,
    },
    /// Make the answers to some requests slow, erroneous or missing
    #[command(after_help = "\
Examples:
  imdsd event fault 'meta-data/iam/*' --delay 2s --jitter 500ms --for 10m
  imdsd event fault api/token --status 503 --probability 0.2
  imdsd event fault '*' --throttle 5 --status 429
  imdsd event fault meta-data/instance-id --drop
  imdsd event fault --clear

Faults are shown by imdsd event list and imdsd status, and end with the daemon. A fault replaces the
one with the same path.")]
    Fault {
        /// The path below the version, such as api/token; a * at its end stands for any end
        #[arg(value_name = "PATH", required_unless_present = "clear", value_parser = fault_path)]
        path: Option<FaultPath>,
        #[command(flatten)]
        fault: Box<FaultArgs>,
        #[command(flatten)]
        injection: InjectionArgs,
    },
    /// Play a scenario file: store every step at once, then report each when it takes effect
    #[command(after_help = "\
Examples:
  imdsd event play config/scenarios/spot-interruption.json
  imdsd event play drill.json --tag team=web --no-wait

Interrupting this command does not cancel the scenario; use `imdsd event clear`.")]
    Play {
        /// The scenario; docs/events.md describes the format
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Return as soon as the scenario is stored [default: wait and report each step]
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        targets: TargetArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List active and scheduled events
    #[command(after_help = "\
Example:
  imdsd event list --json")]
    List {
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// What an injected fault does.
#[derive(Args)]
pub(super) struct FaultArgs {
    /// Delay answers by this long, such as 2s or 300ms; at most 60s
    #[arg(long, value_name = "DURATION")]
    pub(super) delay: Option<EventDuration>,
    /// Delay answers by up to this much more, at random
    #[arg(long, value_name = "DURATION")]
    pub(super) jitter: Option<EventDuration>,
    /// Answer with this status and no body: 400 to 599
    #[arg(long, value_name = "STATUS", conflicts_with_all = ["drop", "cut"])]
    pub(super) status: Option<u16>,
    /// Close the connection without an answer
    #[arg(long, conflicts_with = "cut")]
    pub(super) drop: bool,
    /// Send the first half of the answer, then close the connection
    #[arg(long)]
    pub(super) cut: bool,
    /// Affect only the requests beyond so many a second, by default with status 503
    #[arg(long, value_name = "NUMBER")]
    pub(super) throttle: Option<NonZero<u32>>,
    /// Affect this share of the requests, at random [default: 1, all of them]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(super) probability: Option<f64>,
    /// End after this duration, such as 10m [default: until it is cleared]
    #[arg(long = "for", value_name = "DURATION")]
    pub(super) lasts: Option<EventDuration>,
    /// Clear the fault of the path, or all faults without a path
    #[arg(
        long,
        conflicts_with_all = ["delay", "jitter", "status", "drop", "cut", "throttle", "probability", "lasts"]
    )]
    pub(super) clear: bool,
}

/// Which instances get an event, when, and how the result is printed.
#[derive(Args)]
pub(super) struct InjectionArgs {
    #[command(flatten)]
    pub(super) targets: TargetArgs,
    #[command(flatten)]
    pub(super) start: StartArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Which instances get an event.
#[derive(Args)]
#[group(multiple = false)]
pub(super) struct TargetArgs {
    /// Target this instance, such as i-0123456789abcdef0 [default: the only instance of the host]
    #[arg(long, value_name = "ID", value_parser = instance_id)]
    pub(super) instance: Option<InstanceId>,
    /// Target the instances with this tag, such as team=web
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag)]
    pub(super) tag: Option<TagTarget>,
    /// Target every instance
    #[arg(long)]
    pub(super) all: bool,
}

/// When guests see an event.
#[derive(Args)]
#[group(multiple = false)]
pub(super) struct StartArgs {
    /// Show the event to guests after this duration, such as 5s or 2m30s [default: now]
    #[arg(long = "in", value_name = "DURATION")]
    pub(super) after: Option<EventDuration>,
    /// Show the event to guests at this time, such as 2026-06-01T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) at: Option<Timestamp>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum KindArg {
    Spot,
    Rebalance,
    Maintenance,
    #[value(aliases = ["TargetLifecycleState", "target-lifecycle-state"])]
    Lifecycle,
    Overrides,
}
