//! `imdsd instance`: the instances of a running daemon, over its admin socket.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::admin::client::Request;
use crate::cli::admin_client;
use crate::cli::admin_client::{Door, NotDone, each, joined, text};
use crate::document;
use crate::fault::Fault;
use crate::instance::InstanceId;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    door: Door,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Takes in instance documents: files, directories of *.json, or standard input
    ///
    /// An instance that is unknown is registered; a known one becomes what the document says. What is changed while it runs
    /// (metadata options, state, events, overrides) and its ways in stay where the document does not name them, and one
    /// without Imds leaves all of that as it is. Where a document is refused, none is taken in.
    #[command(
        after_help = "Examples:\n  imdsd instance put web-1.json\n  imdsd instance put instances.d/\n  \
                            aws ec2 describe-instances | imdsd instance put -\n  \
                            imdsd instance put --relaunch web-1.json   # a new launch: its tokens are void"
    )]
    Put(Put),
    /// The same as put, for what export wrote
    #[command(
        after_help = "Example:\n  imdsd instance export --with-secrets > host.json && imdsd instance import host.json"
    )]
    Import(Put),
    /// Prints one instance's document
    #[command(
        after_help = "Example: change one and put it back, unless somebody else did in the meantime\n  \
                            imdsd instance get i-0123456789abcdef0 > i.json; edit i.json\n  \
                            imdsd instance put --generation 7 i.json"
    )]
    Get {
        /// The instance
        #[arg(value_name = "ID", value_parser = instance_id)]
        id: InstanceId,
        /// Shows secrets of static role credentials, which are left out otherwise
        #[arg(long)]
        with_secrets: bool,
    },
    /// Lists the instances
    #[command(
        after_help = "Example:\n  imdsd instance list --json | jq -r '.Instances[].InstanceId'"
    )]
    List {
        #[command(flatten)]
        form: Form,
    },
    /// Removes instances with their records; their guests get no answer any more
    #[command(
        after_help = "Example:\n  imdsd instance delete i-0123456789abcdef0\nA document that is still in the \
                            configured directory registers the instance anew at the next start or reload.\n\
                            What is refused of several keeps \
                            none of the others; the exit code is 1 then."
    )]
    Delete {
        /// The instances
        #[arg(value_name = "ID", required = true, value_parser = instance_id)]
        ids: Vec<InstanceId>,
        /// Only if it is of this generation still, as `list` shows it
        #[arg(long, value_name = "NUMBER")]
        generation: Option<u64>,
    },
    /// Prints the documents of all instances, as import takes them back
    ///
    /// Files in a directory are made anew, for their owner alone. Other *.json there stay, and are named.
    #[command(after_help = "Examples:\n  imdsd instance export > host.json\n  \
                            imdsd instance export --with-secrets --directory backup/")]
    Export {
        /// One file an instance, in this directory, in place of standard output
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
        /// With the secrets of static role credentials, which are left out otherwise
        #[arg(long)]
        with_secrets: bool,
    },
    /// Says which instance an origin is, and what a request from there would be answered, and why
    #[command(
        after_help = "Examples:\n  imdsd instance explain --interface tap0\n  \
                            imdsd instance explain --listener lan --address 10.0.0.5 --token \"$TOKEN\"\n  \
                            imdsd instance explain --listener demo --method PUT --path /latest/api/token \\\n    \
                            --header 'X-aws-ec2-metadata-token-ttl-seconds: 60' --header 'X-Forwarded-For: 10.0.0.9'"
    )]
    Explain(Explain),
}

/// How a list is printed.
#[derive(Args)]
pub struct Form {
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
struct Put {
    /// Documents, directories of *.json, or - for standard input
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Launches the instances anew that are known: their session tokens are void, their identity documents made again
    #[arg(long)]
    relaunch: bool,
    /// Only if the instance is of this generation still, as `list` shows it
    #[arg(long, value_name = "NUMBER")]
    generation: Option<u64>,
    /// Checks everything and changes nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    form: Form,
}

#[derive(Args)]
struct Explain {
    /// Each way in of this instance
    #[arg(value_name = "ID", value_parser = instance_id)]
    id: Option<InstanceId>,
    /// A listener of the configuration
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// An interface of the host: a guest's own, a bridge, or a port of one
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// The mark of packets that come in by a bridge
    #[arg(long, value_name = "NUMBER")]
    mark: Option<u32>,
    /// A network namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The guest's own address
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// The request's method
    #[arg(long, default_value = "GET")]
    method: String,
    /// The request's path
    #[arg(long, default_value = "/latest/meta-data/")]
    path: String,
    /// A header line of the request, as often as there are some
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The request's session token
    #[arg(long)]
    token: Option<String>,
    /// The request has a body
    #[arg(long)]
    body: bool,
    /// The request comes by IPv6
    #[arg(long)]
    ipv6: bool,
    #[command(flatten)]
    form: Form,
}

pub fn run(Arguments { door, command }: Arguments) -> ExitCode {
    admin_client::exit(match command {
        Command::Put(put) | Command::Import(put) => put.run(&door),
        Command::Get { id, with_secrets } => get(&door, &id, with_secrets),
        Command::List { form } => list(&door, &form),
        Command::Delete { ids, generation } => delete(&door, &ids, generation),
        Command::Export {
            directory,
            with_secrets,
        } => export(&door, directory.as_deref(), with_secrets),
        Command::Explain(explain) => explain.run(&door),
    })
}

impl Put {
    fn run(&self, door: &Door) -> Result<(), NotDone> {
        let documents: Vec<Value> = self
            .texts()?
            .into_iter()
            .map(|(file, text)| json!({ "File": file, "Text": text }))
            .collect();
        let body = json!({ "Documents": documents }).to_string();
        let path = format!(
            "/v1/instances?relaunch={}&dry-run={}",
            self.relaunch, self.dry_run
        );
        let request = Request {
            method: "POST",
            path: &path,
            if_match: self.generation,
            body: body.as_bytes(),
        };
        let answer = door.send(&request)?.json();
        if self.form.json {
            admin_client::print_json(&answer);
            return Ok(());
        }
        let mut said = String::new();
        for instance in each(&answer["Instances"]) {
            let (id, outcome) = (text(&instance["InstanceId"]), text(&instance["Outcome"]));
            let would = if self.dry_run { "would be " } else { "" };
            said += &format!("{id}: {would}{outcome}");
            if let Some(generation) = instance["Generation"].as_u64().filter(|_| !self.dry_run) {
                said += &format!(", generation {generation}");
            }
            match joined(&instance["Changed"]).as_str() {
                "" => said += "\n",
                changed => said += &format!(": {changed}\n"),
            }
        }
        admin_client::print(&said);
        for disputed in each(&answer["Disputed"]) {
            eprintln!(
                "warning: {} is claimed by {}: none of them is served there",
                text(&disputed["Attachment"]),
                joined(&disputed["Claimants"])
            );
        }
        Ok(())
    }

    fn texts(&self) -> Result<Vec<(PathBuf, String)>, NotDone> {
        let standard_input = || {
            let mut bytes = Vec::new();
            let read = std::io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .map_err(|reason| reason.to_string());
            let text = read.and_then(|_| document::decode(bytes));
            text.map_err(|reason| {
                NotDone::saying(format_args!("standard input can't be read: {reason}"))
            })
        };
        if self.paths.is_empty() && std::io::stdin().is_terminal() {
            return Err(NotDone::saying(
                "name a document or a directory of them, or give one on standard input",
            ));
        }
        let from_input = [PathBuf::from("-")];
        let paths = if self.paths.is_empty() {
            &from_input[..]
        } else {
            &self.paths
        };
        let mut texts = Vec::new();
        for path in paths {
            match path.as_os_str() == "-" {
                true => texts.push((PathBuf::from("standard input"), standard_input()?)),
                false => texts.extend(document::texts_at(path).map_err(|faults| told(&faults))?),
            }
        }
        match texts.is_empty() {
            true => Err(NotDone::saying("there is no *.json in it")),
            false => Ok(texts),
        }
    }
}

fn told(faults: &[Fault]) -> NotDone {
    let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    NotDone::saying(lines.join("\n"))
}

fn secrets(with_secrets: bool) -> &'static str {
    if with_secrets { "?secrets=shown" } else { "" }
}

fn get(door: &Door, id: &InstanceId, with_secrets: bool) -> Result<(), NotDone> {
    let document = door.ask(
        "GET",
        &format!("/v1/instances/{id}{}", secrets(with_secrets)),
        b"",
    )?;
    admin_client::print_json(&document);
    Ok(())
}

fn list(door: &Door, form: &Form) -> Result<(), NotDone> {
    let answer = door.ask("GET", "/v1/instances", b"")?;
    if form.json {
        admin_client::print_json(&answer);
        return Ok(());
    }
    let row = |instance: &Value| {
        let options = &instance["MetadataOptions"];
        let disputed = |of: &Value| match joined(&of["DisputedWith"]).as_str() {
            "" => text(&of["Text"]),
            rivals => format!("{} (disputed with {rivals})", text(&of["Text"])),
        };
        let attachments: Vec<String> = each(&instance["Attachments"]).map(disputed).collect();
        vec![
            text(&instance["InstanceId"]),
            text(&instance["Name"]),
            text(&instance["State"]),
            text(&instance["PrivateIpAddress"]),
            text(&options["HttpTokens"]),
            text(&options["HttpEndpoint"]),
            text(&instance["OptionsState"]),
            text(&instance["Generation"]),
            if attachments.is_empty() {
                "-".to_string()
            } else {
                attachments.join(", ")
            },
        ]
    };
    let rows: Vec<Vec<String>> = each(&answer["Instances"]).map(row).collect();
    let head = [
        "INSTANCE",
        "NAME",
        "STATE",
        "ADDRESS",
        "TOKENS",
        "ENDPOINT",
        "OPTIONS",
        "GENERATION",
        "ATTACHMENTS",
    ];
    admin_client::print_table(&head, &rows);
    for id in each(&answer["Unreadable"]) {
        eprintln!(
            "{}: not served, as its record can't be read or relied on; see the daemon's log",
            text(id)
        );
    }
    for id in each(&answer["NotStored"]) {
        eprintln!(
            "{}: not served, as its document could not be stored; tried again every second",
            text(id)
        );
    }
    Ok(())
}

fn delete(door: &Door, ids: &[InstanceId], generation: Option<u64>) -> Result<(), NotDone> {
    if ids.len() > 1 && generation.is_some() {
        return Err(NotDone::saying(
            "a generation is of one instance; delete the others by themselves",
        ));
    }
    // Each by itself: what one of them is refused for is told, and keeps none of the others.
    let mut outcome = Ok(());
    for id in ids {
        let path = format!("/v1/instances/{id}");
        match door.send(&Request {
            method: "DELETE",
            path: &path,
            if_match: generation,
            body: b"",
        }) {
            Ok(answer) => {
                admin_client::print(&format!("{id}: {}\n", text(&answer.json()["Message"])))
            }
            Err(refused) if refused.is_unreachable() => return Err(refused),
            Err(refused) => outcome = Err(refused),
        }
    }
    outcome
}

fn export(door: &Door, directory: Option<&Path>, with_secrets: bool) -> Result<(), NotDone> {
    let documents = door.ask("GET", &format!("/v1/export{}", secrets(with_secrets)), b"")?;
    let Some(directory) = directory else {
        admin_client::print_json(&documents);
        return Ok(());
    };
    let failed = |path: &Path, reason: io::Error| {
        NotDone::saying(format_args!("{}: {reason}", path.display()))
    };
    std::fs::create_dir_all(directory).map_err(|reason| failed(directory, reason))?;
    let mut written = BTreeSet::new();
    for document in each(&documents) {
        let name = format!("{}.json", text(&document["InstanceId"]));
        let pretty = serde_json::to_string_pretty(document).expect("plain JSON data") + "\n";
        replace(directory, &name, pretty.as_bytes())
            .map_err(|reason| failed(&directory.join(&name), reason))?;
        written.insert(name);
    }
    admin_client::print(&format!(
        "{}: {} documents\n",
        directory.display(),
        written.len()
    ));
    let others = others_in(directory, &written).map_err(|reason| failed(directory, reason))?;
    if !others.is_empty() {
        eprintln!(
            "warning: {} not of this export: {}; an import of the directory would take in what is there",
            if others.len() == 1 {
                "a document is"
            } else {
                "documents are"
            },
            others.join(", ")
        );
    }
    Ok(())
}

/// Puts a file in the place of whatever has its name there. User data and credentials are for the owner's eyes, so it
/// is a new one, whatever mode an old one has and wherever a link leads.
fn replace(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = directory.join(format!(".{name}.{:016x}", rand::random::<u64>()));
    let written = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    let done = written.and_then(|()| std::fs::rename(&new, directory.join(name)));
    if done.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    done
}

/// The names of the files that an import of the directory would read and an export did not write.
fn others_in(directory: &Path, written: &BTreeSet<String>) -> io::Result<Vec<String>> {
    let files = document::files_at(directory)?;
    let names = files
        .iter()
        .filter_map(|file| file.file_name())
        .map(|name| name.to_string_lossy().into_owned());
    Ok(names.filter(|name| !written.contains(name)).collect())
}

impl Explain {
    fn run(&self, door: &Door) -> Result<(), NotDone> {
        let mut headers = self.headers.clone();
        headers.extend(
            self.token
                .clone()
                .map(|token| ("X-aws-ec2-metadata-token".to_string(), token)),
        );
        let question = json!({
            "InstanceId": self.id,
            "Listener": self.listener,
            "Interface": self.interface,
            "Mark": self.mark,
            "NetworkNamespace": self.namespace,
            "Address": self.address,
            "Request": {
                "Method": self.method,
                "Path": self.path,
                "Family": if self.ipv6 { "ipv6" } else { "ipv4" },
                "Headers": headers,
                "HasBody": self.body,
            },
        });
        let answer = door.ask("POST", "/v1/explain", question.to_string().as_bytes())?;
        if self.form.json {
            admin_client::print_json(&answer);
            return Ok(());
        }
        let mut said = String::new();
        for of in each(&answer["Explanations"]) {
            let instance = match &of["InstanceId"] {
                Value::Null => "no instance".to_string(),
                id => text(id),
            };
            said += &format!(
                "{}: {instance}\n  {}\n",
                text(&of["Attachment"]),
                text(&of["Why"])
            );
            if of["Answer"].is_null() {
                continue;
            }
            let status = of["Answer"]["Status"]
                .as_u64()
                .map_or("no answer".to_string(), |status| status.to_string());
            let reached = of["Reached"] == true;
            let would = if reached {
                ""
            } else {
                "nothing reaches it; if it did: "
            };
            said += &format!(
                "  {} {}: {would}{status}, {}\n",
                self.method,
                self.path,
                text(&of["Answer"]["Rule"])
            );
        }
        for note in each(&answer["Notes"]) {
            said += &format!("{}\n", text(note));
        }
        admin_client::print(&said);
        Ok(())
    }
}

fn instance_id(text: &str) -> Result<InstanceId, String> {
    InstanceId::try_from(text.to_string())
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header line is NAME: VALUE")?;
    Ok((name.trim().to_string(), value.trim().to_string()))
}
