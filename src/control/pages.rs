//! Pagination: MaxResults and NextToken.
//!
//! A page token holds the key of the last item shown. It stays valid when items are added or
//! removed, and after a restart.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::{Code, Ec2Error};
use super::params::Parameters;

/// The prefix of a decoded page token, so that other base64 text is not accepted as one.
const TOKEN_PREFIX: &str = "imdsd:";

/// The requested page of a list.
#[derive(Debug)]
pub(super) struct Page {
    max_results: Option<usize>,
    /// The key of the last item on the page before.
    after: Option<String>,
}

/// The pagination parameters, not parsed yet.
#[derive(Default)]
pub(super) struct PageParameters {
    pub(super) max_results: Option<String>,
    pub(super) next_token: Option<String>,
}

impl PageParameters {
    pub(super) fn take(parameters: &mut Parameters) -> PageParameters {
        // Clients that page in a loop start with an empty token.
        let next_token = parameters
            .take("NextToken")
            .filter(|token| !token.is_empty());
        PageParameters {
            max_results: parameters.take("MaxResults"),
            next_token,
        }
    }

    /// Refuses pagination of a list of ids, as EC2 does.
    pub(super) fn refuse_with_ids(&self) -> Result<(), Ec2Error> {
        let parameters = [
            ("maxResults", &self.max_results),
            ("nextToken", &self.next_token),
        ];
        match parameters.into_iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => {
                let message =
                    format!("The parameter instancesSet cannot be used with the parameter {name}");
                Err(Ec2Error::new(Code::InvalidParameterCombination, message))
            }
            None => Ok(()),
        }
    }

    /// Parses the parameters; `is_key` reports whether a text can be the key of an item.
    pub(super) fn read(self, is_key: impl Fn(&str) -> bool) -> Result<Page, Ec2Error> {
        let after = self.next_token.map(|token| {
            let text = URL_SAFE_NO_PAD
                .decode(&token)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            let key = text
                .as_deref()
                .and_then(|text| text.strip_prefix(TOKEN_PREFIX))
                .filter(|key| is_key(key));
            let invalid = || {
                Ec2Error::new(
                    Code::InvalidNextToken,
                    format!("The token '{token}' is invalid"),
                )
            };
            key.map(str::to_string).ok_or_else(invalid)
        });
        Ok(Page {
            max_results: self
                .max_results
                .map(|value| read_max_results(&value))
                .transpose()?,
            after: after.transpose()?,
        })
    }
}

impl Page {
    /// Returns the items on this page and the token of the next page. `items` must be sorted by
    /// key.
    pub(super) fn of<T>(
        &self,
        items: impl Iterator<Item = T>,
        key: impl Fn(&T) -> String,
    ) -> (Vec<T>, Option<String>) {
        let mut remaining =
            items.filter(|item| self.after.as_ref().is_none_or(|after| key(item) > *after));
        let page: Vec<T> = remaining
            .by_ref()
            .take(self.max_results.unwrap_or(usize::MAX))
            .collect();
        let last = page.last().filter(|_| remaining.next().is_some());
        let token = last.map(|last| URL_SAFE_NO_PAD.encode(format!("{TOKEN_PREFIX}{}", key(last))));
        (page, token)
    }
}

fn read_max_results(value: &str) -> Result<usize, Ec2Error> {
    let refuse = |expecting: &str| {
        let message = format!(
            "Value ( {value} ) for parameter maxResults is invalid. Expecting {expecting}."
        );
        Err(Ec2Error::invalid_value(message))
    };
    match value.parse::<i64>() {
        // EC2's message says "greater than 5", but EC2 accepts 5.
        Ok(..5) => refuse("a value greater than 5"),
        Ok(results) if results <= 1000 => Ok(usize::try_from(results).unwrap_or(1000)),
        Ok(_) => refuse("a value less than or equal to 1000"),
        Err(_) => refuse("an integer"),
    }
}
