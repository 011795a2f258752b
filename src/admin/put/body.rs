//! The documents in the body of a put.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::options::PutOptions;
use super::outcome::located;
use crate::admin::daemon_view::DaemonView;
use crate::admin::refusal::Refusal;
use crate::document::{self, InstanceDocument};
use crate::fault::Fault;

/// `{"Documents": …}`: several files in one request.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Bundle {
    documents: Vec<BundledDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct BundledDocument {
    file: PathBuf,
    text: String,
}

/// Reads the documents of a body, which is a document in any of its shapes or a bundle of them, and
/// checks that this daemon can serve their instances.
pub(super) fn read_documents(
    daemon: &dyn DaemonView,
    options: &PutOptions,
    body: &[u8],
) -> Result<Vec<InstanceDocument>, Refusal> {
    let bundle = read_bundle(body)?;
    let texts = bundle
        .iter()
        .map(|document| (document.file.as_path(), document.text.as_str()));
    let documents = document::read_texts(texts).map_err(Refusal::faulty)?;
    check_count(&documents, options)?;

    let faults: Vec<Fault> = documents
        .iter()
        .flat_map(|document| {
            let faults = daemon.faults(&document.instance).into_iter();
            faults.map(|fault| located(document, fault))
        })
        .collect();
    match faults.is_empty() {
        true => Ok(documents),
        false => Err(Refusal::faulty(faults)),
    }
}

fn read_bundle(body: &[u8]) -> Result<Vec<BundledDocument>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::invalid("the body is not UTF-8"))?;
    // This parse only looks for the key `Documents`. A plain document is parsed again later, by a
    // reader that knows lines and refuses keys that appear twice.
    let is_bundle = serde_json::from_str::<Map<String, Value>>(text)
        .is_ok_and(|map| map.contains_key("Documents"));
    if !is_bundle {
        return Ok(vec![BundledDocument {
            file: PathBuf::from("request body"),
            text: text.to_string(),
        }]);
    }
    let bundle: Bundle =
        serde_json::from_str(text).map_err(|error| Refusal::invalid(error.to_string()))?;
    Ok(bundle.documents)
}

fn check_count(documents: &[InstanceDocument], options: &PutOptions) -> Result<(), Refusal> {
    let Some(first) = documents.first() else {
        return Err(Refusal::invalid("there is no instance in the body"));
    };
    if documents.len() > 1 && (options.only.is_some() || options.generation.is_some()) {
        return Err(Refusal::invalid(format!(
            "expected one instance, found {}; POST /v1/instances without If-Match takes several",
            documents.len()
        )));
    }
    let found = &first.instance.instance_id;
    match &options.only {
        Some(id) if id != found => Err(Refusal::invalid(format!(
            "the document describes {found}, not {id}"
        ))),
        _ => Ok(()),
    }
}
