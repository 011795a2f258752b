//! XML elements that several actions write.

use super::action::Action;
use super::request_id::RequestId;
use super::xml::{EC2_NAMESPACE, ResponseBody, Xml};
use crate::clock::iso_milliseconds;
use crate::instance::events::Maintenance;
use crate::instance::{InstanceState, MetadataOptions};
use crate::registry::{Entry, OptionsState};

/// Returns a successful reply of EC2: `<ActionResponse>` with the request id and what `fill`
/// writes.
pub(super) fn ec2_response(
    action: Action,
    request_id: &RequestId,
    fill: impl FnOnce(&mut Xml),
) -> ResponseBody {
    let root = format!("{}Response", action.name());
    Xml::document(&root, Some(EC2_NAMESPACE), |xml| {
        xml.text("requestId", request_id);
        fill(xml);
    })
}

/// Writes the content of a reply without data.
pub(super) fn write_return(xml: &mut Xml) {
    xml.text("return", true);
}

/// Returns the state of an instance's options that replies show. The options of a stopped instance
/// are stored and nothing remains to be applied; clients that wait for `applied` would otherwise
/// wait for ever.
pub(super) fn shown_state(entry: &Entry) -> OptionsState {
    match entry.instance.state {
        InstanceState::Stopped | InstanceState::Terminated => OptionsState::Applied,
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::ShuttingDown
        | InstanceState::Stopping => entry.options_state(),
    }
}

/// Writes the six elements of metadata options. Each action has its own name for the element around
/// them.
pub(super) fn write_options(xml: &mut Xml, state: OptionsState, options: &MetadataOptions) {
    xml.text("state", state.as_str());
    xml.text("httpTokens", options.http_tokens.as_str());
    xml.text(
        "httpPutResponseHopLimit",
        options.http_put_response_hop_limit.get(),
    );
    xml.text("httpEndpoint", options.http_endpoint.as_str());
    xml.text("httpProtocolIpv6", options.http_protocol_ipv6.as_str());
    xml.text(
        "instanceMetadataTags",
        options.instance_metadata_tags.as_str(),
    );
}

/// Writes the state of an instance: its code and its name.
pub(super) fn write_state(xml: &mut Xml, name: &str, state: InstanceState) {
    xml.element(name, |xml| {
        xml.text("code", state.code());
        xml.text("name", state.as_str());
    });
}

/// Writes a scheduled event.
pub(super) fn write_event(xml: &mut Xml, event: &Maintenance) {
    xml.text("instanceEventId", &event.event_id);
    xml.text("code", event.code.as_str());
    xml.text("description", event.shown_description());
    xml.optional("notAfter", event.not_after.map(iso_milliseconds));
    xml.text("notBefore", iso_milliseconds(event.not_before));
    xml.optional(
        "notBeforeDeadline",
        event.not_before_deadline.map(iso_milliseconds),
    );
}
