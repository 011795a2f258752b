//! The body of `POST /v1/explain`.

use std::net::IpAddr;

use serde::Deserialize;

use crate::admin::daemon_view::ExplainedRequest;
use crate::instance::InstanceId;
use crate::origin::Family;

/// Where a request comes in, as far as the operator knows, and the request.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct ExplainQuestion {
    pub(super) instance_id: Option<InstanceId>,
    pub(super) listener: Option<String>,
    pub(super) interface: Option<String>,
    pub(super) mark: Option<u32>,
    pub(super) network_namespace: Option<String>,
    pub(super) address: Option<IpAddr>,
    pub(super) request: QuestionRequest,
}

/// The request; every field has a default.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct QuestionRequest {
    method: String,
    path: String,
    family: QuestionFamily,
    headers: Vec<(String, String)>,
    has_body: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum QuestionFamily {
    #[default]
    Ipv4,
    Ipv6,
}

impl Default for QuestionRequest {
    fn default() -> Self {
        QuestionRequest {
            method: "GET".to_string(),
            path: "/latest/meta-data/".to_string(),
            family: QuestionFamily::Ipv4,
            headers: Vec::new(),
            has_body: false,
        }
    }
}

impl QuestionRequest {
    pub(super) fn family(&self) -> Family {
        match self.family {
            QuestionFamily::Ipv4 => Family::Ipv4,
            QuestionFamily::Ipv6 => Family::Ipv6,
        }
    }

    /// Returns the request as a client would send it, with a `Host` header if none is given.
    pub(super) fn as_sent(&self) -> ExplainedRequest {
        let mut headers: Vec<(String, String)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .collect();
        if !headers.iter().any(|(name, _)| name == "host") {
            let host = match self.family {
                QuestionFamily::Ipv4 => "169.254.169.254",
                QuestionFamily::Ipv6 => "[fd00:ec2::254]",
            };
            headers.insert(0, ("host".to_string(), host.to_string()));
        }
        ExplainedRequest {
            method: self.method.clone(),
            path: self.path.clone(),
            headers,
            has_body: self.has_body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_read_strictly_and_gets_the_headers_that_clients_send() {
        let read = |text: &str| serde_json::from_str::<ExplainQuestion>(text);
        let question = read(
            r#"{"Listener":"demo",
                "Request":{"Family":"ipv6","Headers":[["X-Forwarded-For","1"]]}}"#,
        )
        .unwrap();
        let request = question.request.as_sent();
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("GET", "/latest/meta-data/")
        );
        let headers = [("host", "[fd00:ec2::254]"), ("x-forwarded-for", "1")];
        assert_eq!(
            request.headers,
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
