//! What a document or a record that cannot be read still says: the ids of its instances, their
//! attachments, and the client tokens of their launches.
//!
//! The text may be cut off, or damaged elsewhere. A quoted key cannot occur inside a JSON string,
//! where quotes are escaped.

use std::collections::BTreeSet;

use serde::de::{Deserialize as _, DeserializeOwned};
use serde_json::Value;

use crate::instance::{InstanceAttachment, InstanceId, LaunchToken};

const INSTANCE_ID: &str = "\"InstanceId\"";

/// Returns the attachments in a text. A list loses only its invalid elements.
pub fn attachments_in(text: &str) -> Vec<InstanceAttachment> {
    let lists = values_of::<Vec<Value>>(text, "\"Attachments\"");
    lists
        .flatten()
        .filter_map(|attachment| InstanceAttachment::deserialize(attachment).ok())
        .collect()
}

/// Returns the client tokens in a record's text. Their account and region are those of its identity
/// document, which a record keeps as one string; unknown unless the text has exactly one.
pub fn launch_tokens_in(text: &str) -> Vec<LaunchToken> {
    let mut documents = values_of::<String>(text, "\"IdentityDocument\"");
    let identity = match (documents.next(), documents.next()) {
        (Some(document), None) => serde_json::from_str(&document).unwrap_or(Value::Null),
        (None, _) | (_, Some(_)) => Value::Null,
    };
    let known = |field: &str| identity[field].as_str().map(str::to_string);
    values_of::<String>(text, "\"ClientToken\"")
        .map(|token| LaunchToken {
            token,
            account: known("accountId"),
            region: known("region"),
        })
        .collect()
}

/// Returns the ids of the instances in a text, ordered and each once.
pub(super) fn instance_ids_in(text: &str) -> BTreeSet<InstanceId> {
    let ids = values_of::<String>(text, INSTANCE_ID);
    ids.filter_map(|id| InstanceId::parse(&id)).collect()
}

/// Returns whether a text has more than one instance, with an id that can be read or not.
pub(super) fn has_several_instances(text: &str) -> bool {
    text.matches(INSTANCE_ID).nth(1).is_some()
}

/// Returns the readable values of a key.
fn values_of<T: DeserializeOwned>(text: &str, quoted_key: &str) -> impl Iterator<Item = T> {
    let places = text.match_indices(quoted_key);
    places.filter_map(|(at, key)| {
        let value = text[at + key.len()..].trim_start().strip_prefix(':')?;
        serde_json::Deserializer::from_str(value)
            .into_iter::<T>()
            .next()?
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Attachment;

    #[test]
    fn client_tokens_of_damaged_texts_are_found() {
        let text = r#"{"Tags":[{"Value":"\"ClientToken\":\"no\""}],"ClientToken" : "one","Cli"#;
        let unknown = LaunchToken {
            token: "one".to_string(),
            account: None,
            region: None,
        };
        assert_eq!(launch_tokens_in(text), std::slice::from_ref(&unknown));
        assert_eq!(
            launch_tokens_in(r#"{"ClientToken":7,"ClientToken":"cut o"#),
            []
        );
        let known = LaunchToken {
            account: Some("111122223333".to_string()),
            region: Some("us-east-1".to_string()),
            ..unknown.clone()
        };
        let identity = r#""IdentityDocument":"{\"accountId\" : \"111122223333\", \"region\" : \"us-east-1\"}""#;
        for (before, expected) in [
            (format!("{identity},,"), &known),
            (format!("{identity}, {identity}"), &unknown),
            (identity.replace("}", ""), &unknown),
            (identity.replace('}', "}\u{0}"), &unknown),
            (identity[..30].to_string(), &unknown),
        ] {
            let text = format!(r#"{{{before}, "Instance":{{"ClientToken":"one""#);
            assert_eq!(
                launch_tokens_in(&text),
                std::slice::from_ref(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn ids_and_attachments_of_damaged_texts_are_found() {
        let listener = |name: &str| InstanceAttachment::from(Attachment::Listener(name.into()));
        for (text, ids, attachments) in [
            ("{", vec![], vec![]),
            (r#"{"InstanceId": "i-12345678""#, vec!["i-12345678"], vec![]),
            (r#"{"InstanceId": "i-1", "InstanceId": 5"#, vec![], vec![]),
            (
                r#"[{"InstanceId":"i-12345678","Imds":{"Attachments":[{"Listener":"a"}]}},
                    {"InstanceId":"i-87654321","Imds":{"Attachments" : [{"Listener":"b"}],,"#,
                vec!["i-12345678", "i-87654321"],
                vec![listener("a"), listener("b")],
            ),
            (
                r#"{"UserDataText": "\"Attachments\":[{\"Listener\":\"a\"}] \"InstanceId\":\"i-12345678\"""#,
                vec![],
                vec![],
            ),
            (
                r#"{"Attachments": [5, {"Listener": "a"}],"#,
                vec![],
                vec![listener("a")],
            ),
            (
                r#"{"Attachments": [{"Listener": "a"}, {"Lis"#,
                vec![],
                vec![],
            ),
        ] {
            let found: Vec<String> = instance_ids_in(text)
                .iter()
                .map(InstanceId::to_string)
                .collect();
            assert_eq!(
                (found, attachments_in(text)),
                (ids.iter().map(ToString::to_string).collect(), attachments),
                "{text}"
            );
        }
    }
}
