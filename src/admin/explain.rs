//! Which instance an origin is, and what a request from there would be answered, with the reason of each.
//!
//! The steps are those of a packet: an attachment that one instance holds, which may be stopped, a way in that is
//! there, a socket that listens, then the gate. The gate is asked itself and not copied here. Where the packet would
//! have ended before it, what the gate would say is told all the same, and that nothing reaches it.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{AdminApi, Answer, ExplainedRequest, PredictedReply, Refusal, instances};
use crate::clock::Moment;
use crate::instance::{Attachment, BridgePort, Instance, InstanceId, SourceAddress};
use crate::net::status::{ListenerKind, ListenersStatus, SocketState};
use crate::origin::Family;
use crate::registry::{Claimants, Entry, QuarantineReason, Snapshot};

/// Where a request comes in, as far as it is known, and the request.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct Question {
    instance_id: Option<InstanceId>,
    listener: Option<String>,
    interface: Option<String>,
    mark: Option<u32>,
    network_namespace: Option<String>,
    address: Option<IpAddr>,
    request: RequestAsked,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct RequestAsked {
    method: String,
    path: String,
    family: FamilyAsked,
    headers: Vec<(String, String)>,
    has_body: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FamilyAsked {
    #[default]
    Ipv4,
    Ipv6,
}

impl Default for RequestAsked {
    fn default() -> Self {
        RequestAsked {
            method: "GET".to_string(),
            path: "/latest/meta-data/".to_string(),
            family: FamilyAsked::Ipv4,
            headers: Vec::new(),
            has_body: false,
        }
    }
}

pub(super) fn explain(admin: &AdminApi, body: &[u8], now: Moment) -> Result<Answer, Refusal> {
    let question: Question = match body.trim_ascii() {
        [] => Question::default(),
        body => {
            serde_json::from_slice(body).map_err(|error| Refusal::invalid(error.to_string()))?
        }
    };
    let (snapshot, listeners) = (admin.registry.snapshot(), admin.listeners.load());
    let family = match question.request.family {
        FamilyAsked::Ipv4 => Family::Ipv4,
        FamilyAsked::Ipv6 => Family::Ipv6,
    };
    let asked = asked(&question.request, family);
    let Candidates { attachments, notes } = candidates(&question, &snapshot, &listeners)?;
    let explained: Vec<Value> = attachments
        .iter()
        .map(|attachment| {
            let found = find(&snapshot, &listeners, attachment, family);
            let judgement = found
                .entry
                .map(|entry| admin.daemon.predict(entry, family, &asked, now));
            found.told(attachment, question.address, judgement)
        })
        .collect();
    Ok(Answer::Json(
        json!({ "Explanations": explained, "Notes": notes }),
    ))
}

/// The request as it would come, with the Host that every client sends.
fn asked(request: &RequestAsked, family: Family) -> ExplainedRequest {
    let mut headers: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .collect();
    if !headers.iter().any(|(name, _)| name == "host") {
        let host = match family {
            Family::Ipv4 => "169.254.169.254",
            Family::Ipv6 => "[fd00:ec2::254]",
        };
        headers.insert(0, ("host".to_string(), host.to_string()));
    }
    ExplainedRequest {
        method: request.method.clone(),
        path: request.path.clone(),
        headers,
        has_body: request.has_body,
    }
}

/// The attachments that are meant, and what is to be said about how they were found.
#[derive(Debug, Default)]
struct Candidates {
    attachments: Vec<Attachment>,
    notes: Vec<String>,
}

fn candidates(
    question: &Question,
    snapshot: &Snapshot,
    listeners: &ListenersStatus,
) -> Result<Candidates, Refusal> {
    let Question {
        instance_id,
        listener,
        interface,
        mark,
        network_namespace,
        address,
        ..
    } = question;
    let places = [
        instance_id.is_some(),
        listener.is_some(),
        interface.is_some(),
        network_namespace.is_some(),
    ];
    match (places.iter().filter(|given| **given).count(), address) {
        (0, None) => {
            let message = "say where the request comes in: an instance, a listener, an interface, a network namespace or \
                           an address";
            return Err(Refusal::invalid(message));
        }
        (0, Some(address)) => return Ok(of_address(*address, snapshot)),
        (1, _) => {}
        (_, _) => {
            return Err(Refusal::invalid(
                "a request comes in at one place; name one",
            ));
        }
    }
    if mark.is_some() && interface.is_none() {
        return Err(Refusal::invalid(
            "a mark goes with the interface of a bridge",
        ));
    }
    let mut found = Candidates::default();
    if let Some(id) = instance_id {
        let Some(entry) = snapshot.entry(id) else {
            return Err(instances::not_shown(snapshot, id));
        };
        found
            .attachments
            .clone_from(&entry.instance.imds.attachments);
        if found.attachments.is_empty() {
            found.notes.push(format!(
                "{id} has no Imds.Attachments, so no packet is taken for its"
            ));
        }
    }
    if let Some(name) = listener {
        let by_address = listeners
            .listeners
            .iter()
            .any(|way| way.kind == ListenerKind::Listener && way.name == *name && way.by_address);
        match (by_address, address) {
            (true, Some(address)) => found.attachments.push(source_address(name, *address)),
            (true, None) => {
                found
                    .attachments
                    .extend(claims(snapshot, |attachment| match attachment {
                        Attachment::SourceAddress(of) => of.listener == *name,
                        _ => false,
                    }));
                found.notes.push(format!(
                    "addresses tell the guests of listener '{name}' apart; --address names one"
                ));
            }
            (false, _) => found.attachments.push(Attachment::Listener(name.clone())),
        }
    }
    if let Some(name) = network_namespace {
        found
            .attachments
            .push(Attachment::NetworkNamespace(name.clone()));
    }
    if let Some(name) = interface {
        found
            .attachments
            .extend(claims(snapshot, |attachment| match attachment {
                Attachment::Interface(own) => own == name,
                Attachment::BridgePort(BridgePort {
                    bridge,
                    port,
                    mark: of_port,
                }) => {
                    let on_bridge = bridge == name && mark.is_none_or(|mark| mark == *of_port);
                    port == name || on_bridge
                }
                _ => false,
            }));
        if found.attachments.is_empty() {
            found.attachments.push(Attachment::Interface(name.clone()));
        }
        if found
            .attachments
            .iter()
            .any(|of| matches!(of, Attachment::BridgePort(port) if port.bridge == *name))
        {
            found.notes.push(format!(
                "marks tell the ports of bridge '{name}' apart; --mark names one"
            ));
        }
    }
    found.attachments.sort();
    Ok(found)
}

/// An address alone identifies a guest only where nobody can have another's.
fn of_address(address: IpAddr, snapshot: &Snapshot) -> Candidates {
    let trusted = claims(
        snapshot,
        |attachment| matches!(attachment, Attachment::SourceAddress(of) if of.address == address),
    );
    let owners = snapshot
        .entries()
        .filter(|entry| has_address(&entry.instance, address));
    let mut found = Candidates::default();
    for entry in owners {
        let id = &entry.instance.instance_id;
        found.notes.push(format!(
            "{address} is an address of {id}; a guest can choose its address, so the way in decides, and these are {id}'s"
        ));
        found
            .attachments
            .extend(entry.instance.imds.attachments.iter().cloned());
    }
    found.attachments.extend(trusted);
    found.attachments.sort();
    found.attachments.dedup();
    if found.attachments.is_empty() {
        found.notes.push(format!(
            "no instance is attached by {address}, and none has it as one of its own"
        ));
    }
    found
}

fn has_address(instance: &Instance, address: IpAddr) -> bool {
    let interfaces = &instance.network_interfaces;
    match address {
        IpAddr::V4(address) => {
            let of_interfaces = interfaces.iter().flat_map(|interface| {
                interface
                    .private_ip_addresses
                    .iter()
                    .map(|of| of.private_ip_address)
                    .chain(interface.private_ip_address)
            });
            instance
                .private_ip_address
                .into_iter()
                .chain(of_interfaces)
                .any(|own| own == address)
        }
        IpAddr::V6(address) => {
            let of_interfaces = interfaces
                .iter()
                .flat_map(|interface| &interface.ipv6_addresses);
            of_interfaces
                .map(|of| of.ipv6_address)
                .chain(instance.ipv6_address)
                .any(|own| own == address)
        }
    }
}

fn claims(snapshot: &Snapshot, is_meant: impl Fn(&Attachment) -> bool) -> Vec<Attachment> {
    snapshot
        .claims()
        .map(|(attachment, _)| attachment)
        .filter(|attachment| is_meant(attachment))
        .cloned()
        .collect()
}

fn source_address(listener: &str, address: IpAddr) -> Attachment {
    Attachment::SourceAddress(SourceAddress {
        listener: listener.to_string(),
        address,
    })
}

/// How far a packet comes.
struct Found<'s> {
    /// Whose it would be.
    entry: Option<&'s Entry>,
    /// Why, or what it ends at.
    why: String,
    /// Whether it reaches the gate.
    open: bool,
}

fn find<'s>(
    snapshot: &'s Snapshot,
    listeners: &ListenersStatus,
    attachment: &Attachment,
    family: Family,
) -> Found<'s> {
    // 1. One instance holds it.
    let entry = match snapshot.claim(attachment) {
        Some(Claimants::One(id)) => match snapshot.quarantine_reason(id) {
            None => snapshot.entry(id),
            Some(doubt) => {
                let whose = match doubt {
                    QuarantineReason::Unreadable | QuarantineReason::StateUnknown => {
                        "record can't be relied on"
                    }
                    QuarantineReason::NotStored => "document could not be stored",
                };
                let why =
                    format!("{attachment} is that of {id}, whose {whose}: nobody is served there");
                return Found {
                    entry: None,
                    why,
                    open: false,
                };
            }
        },
        Some(Claimants::Conflict(several)) => {
            let several: Vec<&str> = several.iter().map(InstanceId::as_str).collect();
            let why = format!(
                "{attachment} is claimed by {}: none of them is served there",
                several.join(" and ")
            );
            return Found {
                entry: None,
                why,
                open: false,
            };
        }
        None => None,
    };
    let Some(entry) = entry else {
        let nobody = match (listeners.of(attachment), attachment) {
            (Some(_), _) => format!("no instance claims {attachment}"),
            (None, Attachment::Listener(name)) => {
                format!(
                    "no instance claims {attachment}, and the configuration has no listener '{name}'"
                )
            }
            (None, _) => format!("no instance claims {attachment}, so nothing listens there"),
        };
        return Found {
            entry: None,
            why: nobody,
            open: false,
        };
    };
    let held = |why: String, open| Found {
        entry: Some(entry),
        why,
        open,
    };

    // 2. It is one whose guest can ask: nothing is opened for the others.
    let Instance {
        instance_id, state, ..
    } = &entry.instance;
    if !state.is_active() {
        return held(
            format!(
                "{attachment} is of {instance_id}, which is {}",
                state.as_str()
            ),
            false,
        );
    }

    // 3. The configuration serves it.
    if let Some(reason) = listeners.unserved(attachment) {
        return held(format!("{attachment} is not served: {reason}"), false);
    }
    let Some(way) = listeners.of(attachment) else {
        return held(format!("{attachment} is not opened yet"), false);
    };

    // 4. It is there, and listens on this family.
    if let Some(missing) = &way.waits_for {
        return held(format!("{way} waits: {missing}"), false);
    }
    let name = match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    };
    let Some(socket) = way.socket(family) else {
        return held(format!("{way} has no {name} address"), false);
    };
    match socket.state {
        SocketState::Listening => held(
            format!("{attachment} is its own, and {} listens", socket.address),
            true,
        ),
        SocketState::Closed => held(
            format!("{way} does not listen on {name}: no instance there answers on it"),
            false,
        ),
        SocketState::Refused => {
            let reason = socket.reason.as_deref().unwrap_or_default();
            held(
                format!("{} can't be listened on: {reason}", socket.address),
                false,
            )
        }
    }
}

impl Found<'_> {
    fn told(
        &self,
        attachment: &Attachment,
        address: Option<IpAddr>,
        judgement: Option<PredictedReply>,
    ) -> Value {
        let mut why = self.why.clone();
        if let (Some(entry), Some(address)) = (self.entry, address)
            && !matches!(attachment, Attachment::SourceAddress(_))
            && !has_address(&entry.instance, address)
        {
            why += &format!("; {address} is no address of its document, which nobody looks at");
        }
        let answer = judgement
            .map(|PredictedReply { status, rule }| json!({ "Status": status, "Rule": rule }));
        json!({
            "Attachment": attachment.to_string(),
            "InstanceId": self.entry.map(|entry| entry.instance.instance_id.as_str()),
            "Why": why,
            "Reached": self.open,
            "Answer": answer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_read_strictly_and_has_the_headers_that_clients_send() {
        let read = |text: &str| serde_json::from_str::<Question>(text);
        let question =
            read(r#"{"Listener":"demo","Request":{"Headers":[["X-Forwarded-For","1"]]}}"#).unwrap();
        let asked = asked(&question.request, Family::Ipv6);
        assert_eq!(
            (asked.method.as_str(), asked.path.as_str()),
            ("GET", "/latest/meta-data/")
        );
        let headers = [("host", "[fd00:ec2::254]"), ("x-forwarded-for", "1")];
        assert_eq!(
            asked.headers,
            headers.map(|(name, value)| (name.to_string(), value.to_string()))
        );
        for bad in [
            r#"{"Listner":"demo"}"#,
            r#"{"Address":"10.0.0"}"#,
            r#"{"Mark":-1}"#,
            r#"{"InstanceId":"i-1"}"#,
            r#"{"Request":{"Family":"IPv4"}}"#,
            r#"{"Request":{"Token":"x"}}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
