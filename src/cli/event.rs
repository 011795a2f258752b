//! `imdsd event`: lets something happen to instances, as EC2 would announce it.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::{RoundMode, SignedDuration, SignedDurationRound, Timestamp, Unit};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::instance::Form;
use crate::cli::admin_client;
use crate::cli::admin_client::{Door, NotDone, each, joined, text};
use crate::clock::iso_seconds;
use crate::document::TIME;
use crate::instance::InstanceId;
use crate::instance::events::request::{
    ClearRequest, Event, EventDuration, EventReference, EventRequest, EventTime, LifecycleRequest,
    MaintenanceRequest, MetadataRequest, PathReference, RebalanceLead, SpotRequest, TagTarget,
    Targets,
};
use crate::instance::events::timeline::{EventKind, Step, TimelineChange};
use crate::instance::events::{MaintenanceCode, SpotAction, TargetLifecycleState};
use crate::plain_file;

#[derive(Args)]
#[command(
    after_help = "Times: --in 5s, --in 2m30s, --at 2026-06-01T10:00:00Z. Without --instance, --tag or --all the one \
                        instance of the host is meant.\nExamples:\n  imdsd event spot --in 5s\n  \
                        imdsd event maintenance system-reboot --not-before 168h --tag team=web\n  \
                        imdsd event play config/scenarios/spot-interruption.json\n  imdsd event clear"
)]
pub struct Arguments {
    #[command(flatten)]
    door: Door,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A spot interruption, with the rebalance recommendation in front of it
    #[command(
        after_help = "Examples:\n  imdsd event spot --in 5s --instance i-0123456789abcdef0\n  \
                            imdsd event spot --action stop --time 10m   # told two minutes before it"
    )]
    Spot {
        /// What will be done to the instance
        #[arg(long, value_name = "ACTION", default_value = "terminate", value_parser = word::<SpotAction>)]
        action: SpotAction,
        /// When it will be done: a length of time from the notice, or a time [default: two minutes after the notice]
        #[arg(long, value_name = "WHEN", value_parser = when)]
        time: Option<EventTime>,
        /// How long before the notice its rebalance recommendation comes [default: 2m, or at once where that is nearer]
        #[arg(long, value_name = "LENGTH", conflicts_with = "no_rebalance")]
        rebalance_before: Option<EventDuration>,
        /// There is no rebalance recommendation
        #[arg(long)]
        no_rebalance: bool,
        #[command(flatten)]
        meant: Meant,
    },
    /// A rebalance recommendation alone
    #[command(after_help = "Example:\n  imdsd event rebalance --all")]
    Rebalance {
        #[command(flatten)]
        meant: Meant,
    },
    /// A scheduled event
    #[command(
        after_help = "Examples:\n  imdsd event maintenance system-reboot --not-before 168h\n  \
                            imdsd event maintenance instance-retirement --not-before 2026-06-01T10:00:00Z --in 1m"
    )]
    Maintenance {
        /// instance-reboot, system-reboot, system-maintenance, instance-retirement or instance-stop
        #[arg(value_name = "CODE", value_parser = word::<MaintenanceCode>)]
        code: MaintenanceCode,
        /// The earliest start: a length of time from when it is told, or a time
        #[arg(long, value_name = "WHEN", value_parser = when)]
        not_before: EventTime,
        /// The latest end
        #[arg(long, value_name = "WHEN", value_parser = when)]
        not_after: Option<EventTime>,
        /// How far ModifyInstanceEventStartTime may move the start [default: not at all]
        #[arg(long, value_name = "WHEN", value_parser = when)]
        not_before_deadline: Option<EventTime>,
        /// In words [default: EC2's]
        #[arg(long)]
        description: Option<String>,
        /// instance-event- and 17 hexadecimal digits [default: made up]
        #[arg(long, value_name = "ID")]
        event_id: Option<String>,
        #[command(flatten)]
        meant: Meant,
    },
    /// A scheduled event is done, and becomes history
    Complete {
        /// As `imdsd event list` shows it
        #[arg(value_name = "EVENT_ID")]
        event_id: String,
        #[command(flatten)]
        meant: Meant,
    },
    /// A scheduled event is called off, and becomes history
    Cancel {
        /// As `imdsd event list` shows it
        #[arg(value_name = "EVENT_ID")]
        event_id: String,
        #[command(flatten)]
        meant: Meant,
    },
    /// The target lifecycle state of an Auto Scaling group
    #[command(after_help = "Example:\n  imdsd event lifecycle Terminated --in 30s")]
    Lifecycle {
        /// InService, Standby, Terminated, Detached or Warmed:…
        #[arg(value_name = "STATE", value_parser = word::<TargetLifecycleState>)]
        state: TargetLifecycleState,
        #[command(flatten)]
        meant: Meant,
    },
    /// A leaf of the metadata tree has a value, or is absent
    #[command(
        after_help = "Examples:\n  imdsd event set meta-data/ancestor-ami-ids ami-0123456789abcdef0\n  \
                            imdsd event set meta-data/public-ipv4 --absent --in 10s"
    )]
    Set {
        /// Below the version: meta-data/ancestor-ami-ids
        #[arg(value_name = "PATH")]
        path: String,
        /// What is served there
        #[arg(
            value_name = "VALUE",
            required_unless_present = "absent",
            conflicts_with = "absent"
        )]
        value: Option<String>,
        /// Nothing is there
        #[arg(long)]
        absent: bool,
        #[command(flatten)]
        meant: Meant,
    },
    /// A path is again what it would be without `set`
    Restore {
        /// Below the version: meta-data/ancestor-ami-ids
        #[arg(value_name = "PATH")]
        path: String,
        #[command(flatten)]
        meant: Meant,
    },
    /// Nothing of some kinds is announced any more, nor what was still to come of them
    #[command(
        after_help = "Examples:\n  imdsd event clear --all\n  imdsd event clear spot rebalance --tag team=web"
    )]
    Clear {
        /// Which kinds [default: all but overrides]
        #[arg(value_name = "KIND")]
        kinds: Vec<KindArgument>,
        #[command(flatten)]
        meant: Meant,
    },
    /// Plays a scenario file: everything is stored at once, and then the clock does it
    #[command(
        after_help = "Examples:\n  imdsd event play config/scenarios/spot-interruption.json\n  \
                            imdsd event play drill.json --tag team=web --no-wait\nIts end does not end the scenario; \
                            `imdsd event clear` does away with what is announced and still to come."
    )]
    Play {
        /// The scenario; docs/events.md says what stands in one
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Returns at once, in place of telling each step when it counts
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        aim: Aim,
        #[command(flatten)]
        form: Form,
    },
    /// Lists what is announced and what is still to come
    #[command(after_help = "Example:\n  imdsd event list --json")]
    List {
        #[command(flatten)]
        form: Form,
    },
}

/// For whom, when, and how it is told.
#[derive(Args)]
struct Meant {
    #[command(flatten)]
    aim: Aim,
    #[command(flatten)]
    told: ToldAt,
    #[command(flatten)]
    form: Form,
}

/// For which instances.
#[derive(Args)]
#[group(multiple = false)]
struct Aim {
    /// For this instance
    #[arg(long, value_name = "ID", value_parser = instance_id)]
    instance: Option<InstanceId>,
    /// For the instances with this tag
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag)]
    tag: Option<TagTarget>,
    /// For every instance
    #[arg(long)]
    all: bool,
}

/// When the guest is told.
#[derive(Args)]
#[group(multiple = false)]
struct ToldAt {
    /// When the guest is told: this long from now
    #[arg(long = "in", value_name = "LENGTH")]
    after: Option<EventDuration>,
    /// When the guest is told: at this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindArgument {
    Spot,
    Rebalance,
    Maintenance,
    Lifecycle,
    Overrides,
}

pub fn run(Arguments { door, command }: Arguments) -> ExitCode {
    admin_client::exit(match command {
        Command::List { form } => list(&door, &form),
        Command::Play {
            file,
            no_wait,
            aim,
            form,
        } => play(&door, &file, no_wait, &aim, &form),
        other => {
            let (event, meant) = event_of(other);
            happen(&door, event, &meant)
        }
    })
}

fn event_of(command: Command) -> (Event, Meant) {
    match command {
        Command::Spot {
            action,
            time,
            rebalance_before,
            no_rebalance,
            meant,
        } => {
            let rebalance = match (rebalance_before, no_rebalance) {
                (Some(length), _) => RebalanceLead::Before(length),
                (None, true) => RebalanceLead::None,
                (None, false) => RebalanceLead::Usual,
            };
            (
                Event::Spot(SpotRequest {
                    action,
                    time,
                    rebalance,
                }),
                meant,
            )
        }
        Command::Rebalance { meant } => (Event::Rebalance {}, meant),
        Command::Maintenance {
            code,
            not_before,
            not_after,
            not_before_deadline,
            description,
            event_id,
            meant,
        } => {
            let request = MaintenanceRequest {
                code,
                not_before,
                not_after,
                not_before_deadline,
                description,
                event_id,
            };
            (Event::Maintenance(request), meant)
        }
        Command::Complete { event_id, meant } => {
            (Event::Complete(EventReference { event_id }), meant)
        }
        Command::Cancel { event_id, meant } => (Event::Cancel(EventReference { event_id }), meant),
        Command::Lifecycle { state, meant } => {
            (Event::Lifecycle(LifecycleRequest { state }), meant)
        }
        Command::Set {
            path, value, meant, ..
        } => {
            let value = value.map_or(Value::Null, Value::String);
            (Event::Metadata(MetadataRequest { path, value }), meant)
        }
        Command::Restore { path, meant } => (Event::Restore(PathReference { path }), meant),
        Command::Clear { kinds, meant } => {
            let kinds = match kinds.as_slice() {
                // Overrides are no announcement; whoever wants them gone says so.
                [] => EventKind::ALL
                    .into_iter()
                    .filter(|kind| *kind != EventKind::Overrides)
                    .collect(),
                kinds => kinds.iter().map(|kind| kind.kind()).collect(),
            };
            (Event::Clear(ClearRequest { kinds }), meant)
        }
        Command::Play { .. } | Command::List { .. } => unreachable!("they are no event"),
    }
}

impl Aim {
    fn targets(&self) -> Option<Targets> {
        match (&self.instance, &self.tag, self.all) {
            (Some(id), _, _) => Some(Targets::Instance(id.clone())),
            (None, Some(tag), _) => Some(Targets::Tag(tag.clone())),
            (None, None, true) => Some(Targets::All),
            (None, None, false) => None,
        }
    }
}

impl KindArgument {
    fn kind(self) -> EventKind {
        match self {
            KindArgument::Spot => EventKind::Spot,
            KindArgument::Rebalance => EventKind::Rebalance,
            KindArgument::Maintenance => EventKind::Maintenance,
            KindArgument::Lifecycle => EventKind::TargetLifecycleState,
            KindArgument::Overrides => EventKind::Overrides,
        }
    }
}

fn happen(door: &Door, event: Event, meant: &Meant) -> Result<(), NotDone> {
    let when = match (meant.told.after, meant.told.at) {
        (Some(length), _) => Some(EventTime::After(length)),
        (None, Some(time)) => Some(EventTime::At(time)),
        (None, None) => None,
    };
    let body = json!({ "Targets": meant.aim.targets(), "Request": EventRequest { when, event } });
    let answer = door.ask("POST", "/v1/events", body.to_string().as_bytes())?;
    if meant.form.json {
        admin_client::print_json(&answer);
        return Ok(());
    }
    let now = Timestamp::now();
    admin_client::print(&(told(&answer, now) + &taken_back(&answer)));
    Ok(())
}

/// Each step of an answer in a line.
fn told(answer: &Value, now: Timestamp) -> String {
    let line = |(step, ids): (Step, String)| {
        format!("{}  {}: {ids}\n", moment(step.at, now), said(&step.set))
    };
    steps_of(answer).map(line).collect()
}

/// How many steps that were to come a clear took back.
fn taken_back(answer: &Value) -> String {
    let line = |of: &Value| {
        let count = each(&of["Steps"]).count();
        let steps = if count == 1 { "step" } else { "steps" };
        format!(
            "{count} {steps} that were still to come dropped: {}\n",
            text(&of["InstanceId"])
        )
    };
    each(&answer["Dropped"]).map(line).collect()
}

fn play(door: &Door, file: &Path, no_wait: bool, aim: &Aim, form: &Form) -> Result<(), NotDone> {
    let text = plain_file::read_text(file, plain_file::MAX_BYTES).map_err(|reason| {
        NotDone::saying(format_args!("{}: can't be read: {reason}", file.display()))
    })?;
    let body = json!({ "Targets": aim.targets(), "Scenario": { "File": file, "Text": text } });
    let answer = door.ask("POST", "/v1/events", body.to_string().as_bytes())?;
    if form.json {
        admin_client::print_json(&answer);
        return Ok(());
    }
    let began = Timestamp::now();
    let steps: Vec<(Step, String)> = steps_of(&answer).collect();
    admin_client::print(&(told(&answer, began) + &taken_back(&answer)));
    if no_wait {
        return Ok(());
    }
    admin_client::print("stored; from here on the clock does it\n");
    for (index, (step, ids)) in steps.iter().enumerate() {
        wait_until(step.at, &format!("step {} of {}", index + 1, steps.len()));
        admin_client::print(&format!(
            "{}/{}  {}: {ids}\n",
            index + 1,
            steps.len(),
            said(&step.set)
        ));
    }
    Ok(())
}

/// Waits by the wall clock, as the daemon's readers do; on a terminal it counts down.
fn wait_until(time: Timestamp, what: &str) {
    let counts_down = std::io::stdout().is_terminal();
    loop {
        let left = time.duration_since(Timestamp::now());
        if left <= SignedDuration::ZERO {
            break;
        }
        if counts_down {
            admin_client::print(&format!(
                "\r{what} {}\x1b[K",
                moment(time, Timestamp::now())
            ));
        }
        let slice = left.min(SignedDuration::from_millis(500));
        std::thread::sleep(Duration::try_from(slice).unwrap_or_default());
    }
    if counts_down {
        admin_client::print("\r\x1b[K");
    }
}

fn list(door: &Door, form: &Form) -> Result<(), NotDone> {
    let answer = door.ask("GET", "/v1/events", b"")?;
    if form.json {
        admin_client::print_json(&answer);
        return Ok(());
    }
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for instance in each(&answer["Instances"]) {
        let id = text(&instance["InstanceId"]);
        let mut row = |when: String, what: String| rows.push(vec![id.clone(), when, what]);
        let events = &instance["Events"];
        if let Some(spot) = read(&events["Spot"]) {
            row("in force".to_string(), said(&TimelineChange::Spot(spot)));
        }
        if let Some(rebalance) = read(&events["Rebalance"]) {
            row(
                "in force".to_string(),
                said(&TimelineChange::Rebalance(rebalance)),
            );
        }
        for event in each(&events["Maintenance"]) {
            if let Some(event) = read(event) {
                row(
                    "in force".to_string(),
                    said(&TimelineChange::Maintenance(event)),
                );
            }
        }
        if let Some(state) = read(&events["TargetLifecycleState"]) {
            row(
                "in force".to_string(),
                said(&TimelineChange::TargetLifecycleState(state)),
            );
        }
        for (path, value) in instance["Overrides"].as_object().into_iter().flatten() {
            let what = if value.is_null() {
                "is absent"
            } else {
                "is set"
            };
            row("in force".to_string(), format!("{path} {what}"));
        }
        for step in each(&instance["Timeline"]) {
            if let Some(step) = read::<Step>(step) {
                row(moment(step.at, now), said(&step.set));
            }
        }
    }
    admin_client::print_table(&["INSTANCE", "WHEN", "WHAT"], &rows);
    Ok(())
}

/// The steps of an answer, each with the instances that have it.
fn steps_of(answer: &Value) -> impl Iterator<Item = (Step, String)> {
    each(&answer["Steps"]).filter_map(|told| {
        let step = read(&json!({ "At": told["At"], "Set": told["Set"] }))?;
        Some((step, joined(&told["InstanceIds"])))
    })
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

/// `in 5s` or `now`. A part of a second counts as a whole one: what was asked for reads as it was asked for.
fn moment(time: Timestamp, now: Timestamp) -> String {
    let left = time.duration_since(now);
    match left.round(
        SignedDurationRound::new()
            .smallest(Unit::Second)
            .mode(RoundMode::Ceil),
    ) {
        Ok(rounded) if rounded > SignedDuration::ZERO => format!("in {rounded:#}"),
        _ => "now".to_string(),
    }
}

/// What a step does, in words.
fn said(change: &TimelineChange) -> String {
    match change {
        TimelineChange::Spot(spot) => format!(
            "spot interruption, {} at {}",
            spot.action.as_str(),
            iso_seconds(spot.time)
        ),
        TimelineChange::Rebalance(_) => "rebalance recommendation".to_string(),
        TimelineChange::Maintenance(event) => format!(
            "{} {}, {} from {}",
            event.event_id,
            word_of(&event.state),
            word_of(&event.code),
            iso_seconds(event.not_before)
        ),
        TimelineChange::MaintenanceState(change) => {
            format!("{} is {}", change.event_id, word_of(&change.state))
        }
        TimelineChange::TargetLifecycleState(state) => {
            format!("target lifecycle state {}", state.as_str())
        }
        TimelineChange::Override(leaf) if leaf.value.is_some() => format!("{} is set", leaf.path),
        TimelineChange::Override(leaf) => format!("{} is absent", leaf.path),
        TimelineChange::Restore(path) => format!("{path} is as it was"),
        TimelineChange::Clear(kinds) => {
            format!(
                "clear {}",
                kinds.iter().map(word_of).collect::<Vec<_>>().join(", ")
            )
        }
    }
}

fn word_of(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .map(|value| text(&value))
        .unwrap_or_default()
}

/// One of EC2's words.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::String(text.to_string()))
        .map_err(|error| error.to_string().replace('`', "'"))
}

/// A time with its date and its offset: a clock time alone has no day.
fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("a time is {TIME}"))
}

/// A length of time, or a time.
fn when(text: &str) -> Result<EventTime, String> {
    match (text.parse::<EventDuration>(), text.parse::<Timestamp>()) {
        (Ok(length), _) => Ok(EventTime::After(length)),
        (Err(_), Ok(time)) => Ok(EventTime::At(time)),
        (Err(_), Err(_)) => Err(format!(
            "this is a length of time, 168h say, or a time, {TIME}"
        )),
    }
}

fn instance_id(text: &str) -> Result<InstanceId, String> {
    InstanceId::try_from(text.to_string())
}

fn tag(text: &str) -> Result<TagTarget, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(TagTarget {
            key: key.to_string(),
            value: value.to_string(),
        }),
        _ => Err("a tag is KEY=VALUE".to_string()),
    }
}
