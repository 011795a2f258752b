//! The reader of an STS's answers, for fuzz targets.

use bytes::Bytes;
use hyper::StatusCode;

use super::endpoint::Endpoint;
use super::response;
use crate::credentials::fetch::{FetchError, FetchedCredentials};

/// Returns the credentials in an answer of some STS.
pub(crate) fn answer(
    answer: (StatusCode, Bytes),
    secrets: &[&str],
) -> Result<FetchedCredentials, FetchError> {
    let endpoint = Endpoint::read("https://sts.example.com/").expect("a URL");
    response::credentials(&endpoint, answer, secrets)
}
