//! A request to the admin API and its parameters.

use bytes::Bytes;

use super::operations::MAX_KEY;
use super::refusal::Refusal;
use crate::document::export::Secrets;
use crate::instance::InstanceId;
use crate::net::unix::UnixCaller;

/// One request.
pub(super) struct AdminRequest<'a> {
    /// Who waits for the answer.
    pub(super) caller: UnixCaller,
    /// `GET`
    pub(super) method: &'a str,
    /// `/v1/instances`
    pub(super) path: &'a str,
    /// The part after the question mark, without it.
    pub(super) query: &'a str,
    /// The value of `If-Match`.
    pub(super) if_match: Option<&'a str>,
    /// The body.
    pub(super) body: Bytes,
}

/// The parameters of a query. A handler takes those it knows; [`Query::finish`] refuses the rest.
pub(super) struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Query<'a>, Refusal> {
        let mut parameters: Vec<(&str, &str)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(Refusal::invalid(format!(
                    "query parameter '{name}' appears twice"
                )));
            }
            parameters.push((name, value));
        }
        Ok(Query(parameters))
    }

    /// Takes a parameter that is `true` or `false`; absent means false.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        match self.take(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Refusal::invalid(format!(
                "query parameter '{name}': expected true or false, found '{other}'"
            ))),
        }
    }

    /// Takes `secrets=shown`; absent means that secrets are left out.
    pub(super) fn secrets(&mut self) -> Result<Secrets, Refusal> {
        match self.take("secrets") {
            None => Ok(Secrets::LeftOut),
            Some("shown") => Ok(Secrets::Shown),
            Some(other) => Err(Refusal::invalid(format!(
                "query parameter 'secrets': expected shown, found '{other}'"
            ))),
        }
    }

    /// Takes the key under which a long operation is listed.
    pub(super) fn operation(&mut self) -> Result<Option<&'a str>, Refusal> {
        let key = self.take("operation");
        let is_valid = |key: &&str| {
            !key.is_empty()
                && key.len() <= MAX_KEY
                && key
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        match key {
            Some(key) if !is_valid(&key) => Err(Refusal::invalid(format!(
                "query parameter 'operation': expected 1 to {MAX_KEY} letters, digits and hyphens"
            ))),
            key => Ok(key),
        }
    }

    /// Refuses parameters that the handler does not know.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.0.first() {
            Some((name, _)) => Err(Refusal::invalid(format!(
                "unknown query parameter '{name}'; docs/admin.md lists those of each path"
            ))),
            None => Ok(()),
        }
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        let index = self.0.iter().position(|(other, _)| *other == name)?;
        Some(self.0.remove(index).1)
    }
}

/// Parses the instance id in a path.
pub(super) fn instance_id(text: &str) -> Result<InstanceId, Refusal> {
    InstanceId::try_from(text.to_string()).map_err(Refusal::invalid)
}

/// Parses the generation in an `If-Match` header: a bare number, or one in the quotes of an entity
/// tag.
pub(super) fn generation(if_match: Option<&str>) -> Result<Option<u64>, Refusal> {
    let Some(text) = if_match else {
        return Ok(None);
    };
    let number = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    number.parse().map(Some).map_err(|_| {
        Refusal::invalid(format!(
            "If-Match: expected a generation such as \"7\", found {text}"
        ))
    })
}
