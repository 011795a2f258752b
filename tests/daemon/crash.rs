//! kill -9 at random instants while options are changed: every acknowledged change is stored, and
//! nothing else.
//!
//! Every option of every instance belongs to one caller, and no other caller changes it. So each
//! option has one order of changes. After a kill, each caller has at most one change with an unknown
//! outcome: the one under way. The model allows all of its old values or all of its new ones, and of
//! everything else exactly what was acknowledged.
//!
//! Data in the kernel survives a kill, but not a power failure. `durability.rs` shows that files and
//! directories are synced before a change is acknowledged.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use imdsd::instance::Instance;
use imdsd::registry::file::{StoredInstances, read_state_directory};
use serde_json::{Value, json};

use crate::support::{Daemon, PATIENCE, ask, call, call_on, element, free_port, spawn_by};

/// The number of instances, unless `IMDSD_TEST_INSTANCES` sets another.
const INSTANCES: usize = 100;
const CALLERS: usize = 8;
/// Instances with a listener of their own; the test sends a guest request to each after each start.
const SERVED: usize = 3;
/// The number of changes, unless `IMDSD_TEST_CHANGES` sets another.
const CHANGES: usize = 10_000;
const SEED: u64 = 0x0169_2541_6925_4169;

/// The options as the API spells them and as `DescribeInstances` does. The greater of two values is
/// the weaker one.
const OPTIONS: [(&str, &str, [&str; 2]); 5] = [
    ("HttpTokens", "httpTokens", ["required", "optional"]),
    (
        "HttpPutResponseHopLimit",
        "httpPutResponseHopLimit",
        ["", ""],
    ),
    ("HttpEndpoint", "httpEndpoint", ["disabled", "enabled"]),
    (
        "HttpProtocolIpv6",
        "httpProtocolIpv6",
        ["disabled", "enabled"],
    ),
    (
        "InstanceMetadataTags",
        "instanceMetadataTags",
        ["disabled", "enabled"],
    ),
];
const LIMIT: usize = 1;

fn instances() -> usize {
    std::env::var("IMDSD_TEST_INSTANCES").map_or(INSTANCES, |count| count.parse().unwrap())
}

/// One instance's options, each as a number.
type Values = [u8; OPTIONS.len()];

fn word(option: usize, value: u8) -> String {
    if option == LIMIT {
        value.to_string()
    } else {
        OPTIONS[option].2[usize::from(value)].to_string()
    }
}

fn value(option: usize, word: &str) -> u8 {
    match option {
        LIMIT => word.parse().unwrap(),
        _ => u8::try_from(
            OPTIONS[option]
                .2
                .iter()
                .position(|known| *known == word)
                .unwrap(),
        )
        .unwrap(),
    }
}

fn id(instance: usize) -> String {
    format!("i-{:017x}", 0x1000 + instance)
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    /// One below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % bound as u64).unwrap()
    }
}

/// The expected state of the instances, and the owner of each option.
struct Model {
    /// The values that were acknowledged last. Each is written by its owner alone.
    known: Vec<[AtomicU8; OPTIONS.len()]>,
    owners: Vec<[usize; OPTIONS.len()]>,
    acknowledged: AtomicUsize,
}

/// Some options of one instance: option, old value, new value.
#[derive(Debug)]
struct Change {
    instance: usize,
    options: Vec<(usize, u8, u8)>,
}

/// The faults of what is stored, and the outcomes of the changes that were under way.
#[derive(Debug, Default)]
struct Tally {
    lost: usize,
    unreadable: usize,
    weaker: usize,
    in_part: usize,
    under_way: usize,
    stored: usize,
    unfinished_files: usize,
    guests_wrong: usize,
}

impl Model {
    fn values(&self, instance: usize) -> Values {
        self.known[instance]
            .each_ref()
            .map(|value| value.load(Ordering::Relaxed))
    }

    /// A change of one, two or three options that are this caller's.
    fn change(&self, caller: usize, random: &mut Random) -> Change {
        loop {
            let instance = random.below(self.known.len());
            let mut own: Vec<usize> = (0..OPTIONS.len())
                .filter(|option| self.owners[instance][*option] == caller)
                .collect();
            if own.is_empty() {
                continue;
            }
            let known = self.values(instance);
            let options = (0..=random.below(own.len().min(3))).map(|_| {
                let option = own.swap_remove(random.below(own.len()));
                let old = known[option];
                let new = match option {
                    LIMIT => 1 + (old - 1 + 1 + u8::try_from(random.below(63)).unwrap()) % 64,
                    _ => 1 - old,
                };
                (option, old, new)
            });
            return Change {
                instance,
                options: options.collect(),
            };
        }
    }

    /// Changes options until the daemon is gone. Returns the change with an unknown outcome.
    fn call(&self, caller: usize, control: SocketAddr, random: &mut Random) -> Option<Change> {
        loop {
            let change = self.change(caller, random);
            let id = id(change.instance);
            let words: Vec<_> = change
                .options
                .iter()
                .map(|(option, _, new)| (OPTIONS[*option].0, word(*option, *new)))
                .collect();
            let mut parameters = vec![("InstanceId", id.as_str())];
            parameters.extend(words.iter().map(|(name, word)| (*name, word.as_str())));
            // What could not connect was never sent.
            let stream = TcpStream::connect_timeout(&control, PATIENCE).ok()?;
            let Some(answer) = call_on(
                stream,
                control,
                "ModifyInstanceMetadataOptions",
                &parameters,
            ) else {
                return Some(change);
            };
            assert_eq!(answer.status, 200, "{}", answer.raw);
            for (option, _, new) in change.options {
                self.known[change.instance][option].store(new, Ordering::Relaxed);
            }
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Compares what is stored with what was acknowledged, and expects the stored values from then on.
    fn hold(&self, shown: &[Option<Values>], under_way: &[Change], tally: &mut Tally) {
        for (instance, shown) in shown.iter().enumerate() {
            // The instance is missed where what can't be read is counted.
            let Some(shown) = shown else { continue };
            let known = self.values(instance);
            let mut expected = known;
            for change in under_way
                .iter()
                .filter(|change| change.instance == instance)
            {
                let new = change
                    .options
                    .iter()
                    .filter(|(option, _, new)| shown[*option] == *new)
                    .count();
                tally.under_way += 1;
                tally.stored += usize::from(new == change.options.len());
                tally.in_part += usize::from(new > 0 && new < change.options.len());
                for (option, old, new) in &change.options {
                    tally.weaker += usize::from(shown[*option] > *old.max(new));
                    expected[*option] = if shown[*option] == *new { *new } else { *old };
                }
            }
            for option in 0..OPTIONS.len() {
                if shown[option] != expected[option] {
                    println!(
                        "{} {}: {} is not {}",
                        id(instance),
                        OPTIONS[option].0,
                        shown[option],
                        expected[option]
                    );
                    tally.lost += 1;
                }
                self.known[instance][option].store(shown[option], Ordering::Relaxed);
            }
        }
    }
}

/// Returns the values in the files, read without the daemon.
fn on_disk(state: &Path, count: usize, tally: &mut Tally) -> Vec<Option<Values>> {
    let StoredInstances {
        instances,
        unreadable,
        account_unreadable,
    } = read_state_directory(state).unwrap();
    unreadable
        .iter()
        .map(|record| &record.fault)
        .chain(&account_unreadable)
        .for_each(|fault| println!("{fault}"));
    tally.unreadable += count - instances.len();
    let files = std::fs::read_dir(state.join("instances")).unwrap();
    tally.unfinished_files += files
        .filter(|file| {
            file.as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .ends_with(".tmp")
        })
        .count();
    let by_id: HashMap<&str, &Instance> = instances
        .iter()
        .map(|instance| (instance.instance_id.as_str(), instance))
        .collect();
    let values = |instance: usize| {
        let found = by_id.get(id(instance).as_str())?;
        let options = &found.metadata_options;
        let limit = options.http_put_response_hop_limit.get().to_string();
        let words = [
            options.http_tokens.as_str(),
            &limit,
            options.http_endpoint.as_str(),
            options.http_protocol_ipv6.as_str(),
            options.instance_metadata_tags.as_str(),
        ];
        Some(std::array::from_fn(|option| value(option, words[option])))
    };
    (0..count).map(values).collect()
}

/// Returns the values that the daemon reports, all in one call.
fn described(daemon: &Daemon, count: usize) -> Vec<Option<Values>> {
    let answer = call(daemon.control, "DescribeInstances", &[]).unwrap();
    let by_id: HashMap<&str, &str> = answer
        .body
        .split("<instanceId>")
        .filter_map(|of_one| of_one.split_once("</instanceId>"))
        .collect();
    let values = |instance: usize| {
        let own = by_id.get(id(instance).as_str())?;
        let options = element(own, "metadataOptions").unwrap();
        Some(std::array::from_fn(|option| {
            value(option, element(options, OPTIONS[option].1).unwrap())
        }))
    };
    (0..count).map(values).collect()
}

/// Returns the status that a guest without a token gets under these options.
fn expected_status(values: Values) -> u16 {
    match values {
        [_, _, 0, _, _] => 403,
        [0, ..] => 401,
        _ => 200,
    }
}

/// This many instances, of which the first few are attached to listeners.
fn start(count: usize) -> (Daemon, [SocketAddr; SERVED]) {
    let others = [(); SERVED - 1].map(|()| free_port("127.0.0.1:0"));
    let listener =
        |(number, address)| format!("[[listener]]\nname = \"of{number}\"\nipv4 = \"{address}\"\n");
    let more: String = (1..).zip(others).map(listener).collect();
    let daemon = Daemon::start_with(&more, |document| {
        let one = document.clone();
        let instance = |number: usize| {
            let mut instance = one.clone();
            instance["InstanceId"] = id(number).into();
            instance["Imds"]["Attachments"] = match number {
                0 => json!([{ "Listener": "demo" }]),
                1..SERVED => json!([{ "Listener": format!("of{number}") }]),
                _ => json!([]),
            };
            instance
        };
        *document = json!({ "Reservations": [{ "Instances": (0..count).map(instance).collect::<Vec<Value>>() }] });
    });
    let served = [daemon.ipv4, others[0], others[1]];
    (daemon, served)
}

/// "10,000 random changes on 100 instances with kill -9 at random instants: every acknowledged change is there, and no
/// instance shows options weaker than both the old and the new set"
#[test]
fn every_acknowledged_change_outlives_kills_at_random_instants_and_no_record_is_damaged() {
    let wanted =
        std::env::var("IMDSD_TEST_CHANGES").map_or(CHANGES, |count| count.parse().unwrap());
    let count = instances();
    let began = Instant::now();
    let mut random = Random(SEED);
    let (mut daemon, served) = start(count);
    let state: PathBuf = daemon.directory.path().join("state");
    let model = Model {
        known: described(&daemon, count)
            .into_iter()
            .map(|values| values.unwrap().map(AtomicU8::new))
            .collect(),
        owners: (0..count)
            .map(|_| std::array::from_fn(|_| random.below(CALLERS)))
            .collect(),
        acknowledged: AtomicUsize::new(0),
    };
    let mut callers: Vec<Random> = (1..=CALLERS as u64)
        .map(|number| Random(SEED ^ (number << 32)))
        .collect();
    let (mut tally, mut kills, mut kills_of_starts) = (Tally::default(), 0, 0);
    let acknowledged = || model.acknowledged.load(Ordering::Relaxed);

    while acknowledged() < wanted {
        // A start takes longer with more instances, so there are fewer of them.
        let between_kills = (100 + random.below(250)) * (1 + count / 1000);
        let enough = (acknowledged() + between_kills).min(wanted);
        let instant = Duration::from_micros(random.below(3000) as u64);
        let (model, control) = (&model, daemon.control);
        let under_way: Vec<Change> = std::thread::scope(|scope| {
            let calling = callers.iter_mut().enumerate();
            let calling: Vec<_> = calling
                .map(|(n, random)| scope.spawn(move || model.call(n, control, random)))
                .collect();
            // So many changes, and then anywhere in the next few milliseconds.
            let (mut since, mut before) = (Instant::now(), acknowledged());
            while acknowledged() < enough
                && since.elapsed() < 6 * PATIENCE
                && !calling.iter().any(|c| c.is_finished())
            {
                if acknowledged() > before {
                    (since, before) = (Instant::now(), acknowledged());
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            let until = Instant::now() + instant;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            daemon.kill();
            calling
                .into_iter()
                .filter_map(|caller| caller.join().unwrap())
                .collect()
        });
        assert!(acknowledged() >= enough, "the daemon did not go on");
        kills += 1;
        let files = on_disk(&state, count, &mut tally);
        model.hold(&files, &under_way, &mut tally);

        // Some starts are killed too, on their way through the records.
        if kills % 4 == 0 {
            let (mut starting, _lines) = spawn_by(
                Command::new(env!("CARGO_BIN_EXE_imdsd")),
                daemon.directory.path(),
            );
            std::thread::sleep(Duration::from_millis(random.below(60) as u64));
            starting.kill().unwrap();
            starting.wait().unwrap();
            kills_of_starts += 1;
        }
        daemon.start_again();
        let shown = described(&daemon, count);
        assert_eq!(shown, files, "the daemon shows what its files say");
        for (address, values) in served.iter().zip(&shown) {
            let seen = ask(
                *address,
                "GET /latest/meta-data/ HTTP/1.1\r\nHost: imds\r\n\r\n",
            )
            .status;
            tally.guests_wrong += usize::from(values.map(expected_status) != Some(seen));
        }
    }

    let Tally {
        lost,
        unreadable,
        weaker,
        in_part,
        under_way,
        stored,
        unfinished_files,
        guests_wrong,
    } = tally;
    println!(
        "{} changes acknowledged on {count} instances by {CALLERS} callers, {kills} kills and {kills_of_starts} of \
         starts, {lost} lost, {unreadable} unreadable, in {:.1} s",
        acknowledged(),
        began.elapsed().as_secs_f64()
    );
    println!(
        "under way at a kill: {under_way}, of which {stored} were stored and {in_part} in part; weaker than old and new: \
         {weaker}; unfinished files left: {unfinished_files}; guests with another answer: {guests_wrong}"
    );
    assert_eq!(
        (lost, unreadable, weaker, in_part, guests_wrong),
        (0, 0, 0, 0, 0)
    );
}
