//! The audit line: one line in the log for each call that changes something, and for every call of
//! the EC2 API. Both APIs write it here, so both have the same fields; docs/logs.md describes them.
//!
//! Values are shown only for the fields in [`SHOWN`]. Of every other field the line says only that
//! it changed: documents contain credentials and user data.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tracing::info;

use crate::document;
use crate::instance::{Instance, InstanceId};
use crate::registry::{
    Account, BulkOutcome, Entry, Progress, Registry, Snapshot, Transaction, UpdateError,
};

/// The fields whose values are shown: what they contain is public to every caller that may describe
/// an instance, and never a secret.
const SHOWN: [&str; 12] = [
    "MetadataOptions",
    "State",
    "Tags",
    "InstanceType",
    "KeyName",
    "Monitoring",
    "SourceDestCheck",
    "EbsOptimized",
    "LaunchTime",
    "Imds.Attachments",
    "Imds.DisableApiStop",
    "Imds.DisableApiTermination",
];
/// How many changes, and how many instances, one line names. The rest is a number.
const MAX_LISTED: usize = 100;
/// The most characters of a value.
const MAX_VALUE: usize = 200;

/// What a call named, changed and was refused by, for its audit line.
#[derive(Debug, Default)]
pub(crate) struct Trail(Mutex<TrailState>);

#[derive(Debug, Default)]
struct TrailState {
    instances: BTreeSet<InstanceId>,
    changes: Vec<String>,
    /// Changes beyond those that a line shows.
    more_changes: usize,
    rule: Option<String>,
}

/// A call that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuditedCall<'a> {
    /// `ec2` or `admin`.
    pub(crate) api: &'a str,
    /// The action, or method and path.
    pub(crate) action: &'a str,
    /// The key that signed, on the EC2 API.
    pub(crate) access_key_id: Option<&'a str>,
    /// The user that called, on the admin API.
    pub(crate) uid: Option<u32>,
    /// The caller's address.
    pub(crate) peer: &'a str,
    /// `OK`, or the code of the error.
    pub(crate) outcome: &'a str,
    /// The request id that the caller got.
    pub(crate) request_id: Option<&'a str>,
}

impl Trail {
    /// Adds instances that the call names.
    pub(crate) fn name<'i>(&self, ids: impl IntoIterator<Item = &'i InstanceId>) {
        self.0.lock().instances.extend(ids.into_iter().cloned());
    }

    /// Adds a change that is not one of an instance's fields.
    pub(crate) fn add(&self, change: String) {
        self.0.lock().changes.push(change);
    }

    /// Sets the rule that refused the call.
    pub(crate) fn refused_by(&self, rule: String) {
        self.0.lock().rule = Some(rule);
    }

    /// Makes a change of the registry, and adds what it changed.
    pub(crate) async fn change<T, E>(
        &self,
        registry: &Arc<Registry>,
        now: Timestamp,
        plan: impl FnOnce(&mut Transaction) -> Result<T, E> + Send + 'static,
    ) -> Result<(Vec<Arc<Entry>>, T), UpdateError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let plan = move |transaction: &mut Transaction| audited(transaction, plan);
        Ok(self.add_changed(registry.change(now, plan).await?))
    }

    /// Like [`Trail::change`], beside changes of other instances
    /// ([`Registry::change_beside`]).
    pub(crate) async fn change_beside<T, E>(
        &self,
        registry: &Arc<Registry>,
        ids: impl IntoIterator<Item = InstanceId>,
        now: Timestamp,
        plan: impl Fn(&mut Transaction) -> Result<T, E> + Send + 'static,
    ) -> Result<(Vec<Arc<Entry>>, T), UpdateError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let plan = move |transaction: &mut Transaction| audited(transaction, &plan);
        Ok(self.add_changed(registry.change_beside(ids, now, plan).await?))
    }

    /// Changes many instances ([`Registry::change_all`]), and adds what it changed.
    pub(crate) async fn change_all<T, E>(
        &self,
        registry: &Arc<Registry>,
        ids: impl IntoIterator<Item = InstanceId>,
        now: Timestamp,
        change: impl Fn(&mut Instance) -> Result<T, E> + Send + Sync + 'static,
        progress: watch::Sender<Progress>,
    ) -> BulkOutcome<T, E>
    where
        T: Send + Sync + 'static,
        E: Send + 'static,
    {
        let changed = registry.change_all(ids, now, change, progress).await?;
        let published = changed.iter().filter(|of| of.is_changed());
        self.published(published.map(|of| (Some(&of.before), &of.after)));
        Ok(changed)
    }

    fn add_changed<T>(
        &self,
        (published, audited): (Vec<Arc<Entry>>, Audited<T>),
    ) -> (Vec<Arc<Entry>>, T) {
        if let (Some(from), Some(to)) = audited.accounts {
            self.account_changed(from, to);
        }
        let before = |entry: &Arc<Entry>| audited.before.entry(&entry.instance.instance_id);
        self.published(published.iter().map(|entry| (before(entry), entry)));
        (published, audited.outcome)
    }

    /// Adds what a change published, with the entries before. Beyond what a line shows, it only
    /// counts: to compare thousands of instances would take seconds.
    fn published<'e>(
        &self,
        published: impl Iterator<Item = (Option<&'e Arc<Entry>>, &'e Arc<Entry>)>,
    ) {
        for (before, entry) in published {
            let id = &entry.instance.instance_id;
            let is_shown = {
                let mut state = self.0.lock();
                state.instances.insert(id.clone());
                let is_shown = state.changes.len() < MAX_LISTED;
                state.more_changes += usize::from(!is_shown);
                is_shown
            };
            if !is_shown {
                continue;
            }
            let differences = match before {
                Some(previous) => instance_differences(&previous.instance, &entry.instance),
                None => vec!["created".to_string()],
            };
            if !differences.is_empty() {
                self.add(format!("{id}: {}", differences.join(", ")));
            }
        }
    }

    fn account_changed(&self, from: Account, to: Account) {
        for image in to.imds_v2_images.difference(&from.imds_v2_images) {
            self.add(format!("image {image}: imdsSupport → v2.0"));
        }
        let json = |account: Account| {
            serde_json::to_value(account.metadata_defaults).expect("plain JSON data")
        };
        let mut found = Vec::new();
        add_leaves(&mut found, "", &json(from), &json(to));
        if !found.is_empty() {
            self.add(format!("metadata defaults: {}", found.join(", ")));
        }
    }
}

/// What a plan returned, and what was there before.
struct Audited<T> {
    outcome: T,
    before: Arc<Snapshot>,
    /// The account before and after.
    accounts: (Option<Account>, Option<Account>),
}

fn audited<T, E>(
    transaction: &mut Transaction,
    plan: impl FnOnce(&mut Transaction) -> Result<T, E>,
) -> Result<Audited<T>, E> {
    let (before, account) = (transaction.snapshot(), transaction.account().ok());
    Ok(Audited {
        outcome: plan(transaction)?,
        before,
        accounts: (account, transaction.account().ok()),
    })
}

impl AuditedCall<'_> {
    /// Writes the line.
    pub(crate) fn log(&self, trail: &Trail) {
        let state = trail.0.lock();
        let instances: Vec<&str> = state.instances.iter().map(InstanceId::as_str).collect();
        let changes: Vec<&str> = state.changes.iter().map(String::as_str).collect();
        let instances = listed(&instances, " ", 0);
        let changes = listed(&changes, "; ", state.more_changes);
        info!(
            api = self.api,
            action = self.action,
            instances = instances.as_deref(),
            changes = changes.as_deref(),
            access_key_id = self.access_key_id,
            uid = self.uid,
            peer = self.peer,
            outcome = self.outcome,
            rule = state.rule.as_deref(),
            request_id = self.request_id,
            "api call"
        );
    }
}

/// Joins the first of several texts; `None` if there is none. `more` were not even kept.
fn listed(texts: &[&str], separator: &str, more: usize) -> Option<String> {
    let shown = &texts[..texts.len().min(MAX_LISTED)];
    let mut list = shown.join(separator);
    let more = texts.len() - shown.len() + more;
    if more > 0 {
        list += &format!("{separator}and {more} more");
    }
    (!list.is_empty()).then_some(list)
}

/// Returns what differs between two instances. Most changes are of options alone, and cost no whole
/// documents.
fn instance_differences(from: &Instance, to: &Instance) -> Vec<String> {
    let Some((from_options, to_options)) = from.options_change(to) else {
        return differences(&document::to_value(from), &document::to_value(to));
    };
    let pairs = from_options.named().into_iter().zip(to_options.named());
    pairs
        .filter(|((_, from), (_, to))| from != to)
        .map(|((name, from), (_, to))| format!("MetadataOptions.{name}: {from} → {to}"))
        .collect()
}

/// Returns what differs between two instances: `MetadataOptions.HttpTokens: "optional" → "required"`
/// for fields that are shown, the name for others.
fn differences(from: &Value, to: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (path, from, to) in top_fields(from, to) {
        if from == to {
            continue;
        }
        match SHOWN.contains(&path.as_str()) {
            true => add_leaves(&mut found, &path, from, to),
            false => found.push(format!("{path}: changed")),
        }
    }
    found
}

/// Returns the fields of two instances, and those of their `Imds` instead of `Imds` itself.
fn top_fields<'v>(from: &'v Value, to: &'v Value) -> Vec<(String, &'v Value, &'v Value)> {
    let mut fields = Vec::new();
    for name in names(from, to) {
        if name != "Imds" {
            fields.push((name.to_string(), &from[name], &to[name]));
            continue;
        }
        let (from, to) = (&from[name], &to[name]);
        let below = names(from, to);
        fields.extend(
            below
                .into_iter()
                .map(|below| (format!("{name}.{below}"), &from[below], &to[below])),
        );
    }
    fields
}

fn names<'v>(from: &'v Value, to: &'v Value) -> BTreeSet<&'v str> {
    let objects = [from, to].into_iter().filter_map(Value::as_object);
    objects
        .flat_map(|object| object.keys().map(String::as_str))
        .collect()
}

/// Adds each leaf that differs, with both values.
fn add_leaves(found: &mut Vec<String>, path: &str, from: &Value, to: &Value) {
    if from == to {
        return;
    }
    let below = |name: &str| match path {
        "" => name.to_string(),
        path => format!("{path}.{name}"),
    };
    match (tags(from), tags(to)) {
        (Some(from), Some(to)) => return add_leaves(found, path, &from, &to),
        (Some(from), None) if to.is_null() => {
            return add_leaves(found, path, &from, &Value::Object(Default::default()));
        }
        (None, Some(to)) if from.is_null() => {
            return add_leaves(found, path, &Value::Object(Default::default()), &to);
        }
        _ => {}
    }
    if from.is_object() && to.is_object() {
        for name in names(from, to) {
            add_leaves(found, &below(name), &from[name], &to[name]);
        }
        return;
    }
    found.push(format!("{path}: {} → {}", shown(from), shown(to)));
}

/// Returns EC2's list of keys and values as one object.
fn tags(value: &Value) -> Option<Value> {
    let list = value.as_array().filter(|list| !list.is_empty())?;
    let pair = |tag: &Value| Some((tag["Key"].as_str()?.to_string(), tag["Value"].clone()));
    list.iter()
        .map(pair)
        .collect::<Option<_>>()
        .map(Value::Object)
}

/// Returns a value as JSON, which escapes control characters, cut to [`MAX_VALUE`] characters.
fn shown(value: &Value) -> String {
    if value.is_null() {
        return "none".to_string();
    }
    let text = value.to_string();
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_shows_from_and_to_and_never_a_secret() {
        let from = json!({
            "InstanceId": "i-1",
            "MetadataOptions": { "HttpTokens": "optional", "HttpPutResponseHopLimit": 1 },
            "State": { "Code": 16, "Name": "running" },
            "Tags": [{ "Key": "team", "Value": "web" }, { "Key": "old", "Value": "x" }],
            "PrivateIpAddress": "10.0.0.1",
            "Imds": { "UserDataText": "hunter1", "Role": { "Secret": "hunter2" },
                      "Attachments": [{ "Interface": "tap0" }] }
        });
        let mut to = from.clone();
        assert_eq!(differences(&from, &to), Vec::<String>::new());
        to["MetadataOptions"]["HttpTokens"] = json!("required");
        to["MetadataOptions"]["HttpPutResponseHopLimit"] = json!(2);
        to["Tags"] =
            json!([{ "Key": "team", "Value": "db\nINFO forged" }, { "Key": "new", "Value": "y" }]);
        to["PrivateIpAddress"] = json!("10.0.0.2");
        to["Imds"]["UserDataText"] = json!("hunter3");
        to["Imds"]["Role"]["Secret"] = json!("hunter4");
        to["Imds"]["Attachments"] = json!([]);
        let found = differences(&from, &to);
        assert_eq!(
            found,
            [
                "Imds.Attachments: [{\"Interface\":\"tap0\"}] → []".to_string(),
                "Imds.Role: changed".to_string(),
                "Imds.UserDataText: changed".to_string(),
                "MetadataOptions.HttpPutResponseHopLimit: 1 → 2".to_string(),
                "MetadataOptions.HttpTokens: \"optional\" → \"required\"".to_string(),
                "PrivateIpAddress: changed".to_string(),
                "Tags.new: none → \"y\"".to_string(),
                "Tags.old: \"x\" → none".to_string(),
                "Tags.team: \"web\" → \"db\\nINFO forged\"".to_string(),
            ]
        );
        assert!(!found.concat().contains("hunter"));
    }

    /// A change of options alone takes another way, which costs less.
    #[test]
    fn a_difference_of_options_alone_is_shown_as_one_of_several_fields() {
        let from = crate::config::demo_instance();
        let value = document::to_value(&from);
        for change in [
            json!({ "HttpTokens": "required", "HttpPutResponseHopLimit": 64 }),
            json!({ "HttpTokens": "optional", "HttpPutResponseHopLimit": 63 }),
            json!({ "HttpEndpoint": "disabled", "HttpProtocolIpv6": "enabled" }),
            json!({ "HttpEndpoint": "enabled", "InstanceMetadataTags": "disabled" }),
            json!({ "HttpProtocolIpv6": "disabled", "InstanceMetadataTags": "enabled" }),
            json!({}),
        ] {
            let mut changed = value.clone();
            for (option, word) in change.as_object().unwrap() {
                changed["MetadataOptions"][option] = word.clone();
            }
            let to = document::from_value(changed.clone()).unwrap();
            assert!(from.options_change(&to).is_some());
            assert_eq!(
                instance_differences(&from, &to),
                differences(&value, &changed)
            );
        }
    }

    #[test]
    fn a_line_is_bounded() {
        let texts = vec!["i-1"; 250];
        let list = listed(&texts, " ", 7).unwrap();
        assert!(list.ends_with("i-1 and 157 more"), "{list}");
        assert_eq!(listed(&[], " ", 0), None);
        let long = shown(&json!("x".repeat(1000)));
        assert_eq!(long.chars().count(), MAX_VALUE + 1);
    }
}
