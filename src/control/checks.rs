//! Checks of a changed instance that several actions make.

use super::error::{Code, Ec2Error};
use crate::document;
use crate::instance::tags::{MAX_TAGS, keys_unfit_for_metadata};
use crate::instance::{Instance, Switch, Tag};

/// Refuses faults that the change introduces and that a document must not have either: both go
/// through the same checks.
pub(super) fn refuse_new_faults(
    before: Option<&Instance>,
    after: &Instance,
) -> Result<(), Ec2Error> {
    let known = before.map(document::faults).unwrap_or_default();
    match document::faults(after)
        .into_iter()
        .find(|fault| !known.contains(fault))
    {
        Some(fault) => Err(Ec2Error::invalid_value(fault.to_string())),
        None => Ok(()),
    }
}

/// Refuses tag keys that metadata cannot show, unless `shown` (InstanceMetadataTags) is disabled.
/// The message is EC2's, with its doubled backslash.
pub(super) fn refuse_keys_unfit_for_metadata(tags: &[Tag], shown: Switch) -> Result<(), Ec2Error> {
    match keys_unfit_for_metadata(tags, shown).next() {
        Some((_, key)) => Err(Ec2Error::invalid_value(format!(
            "'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\\\-_+=,.@:]{{1,255}}), and must not \
             be a reserved name ('.', '..', '_index')"
        ))),
        None => Ok(()),
    }
}

/// Refuses more tags than EC2's limit. EC2's own tags do not count.
pub(super) fn refuse_too_many_tags(tags: &[Tag]) -> Result<(), Ec2Error> {
    let own = tags.iter().filter(|tag| !tag.key.starts_with("aws:"));
    if own.count() > MAX_TAGS {
        let message =
            format!("The maximum number of Tags for a resource has been reached: {MAX_TAGS}.");
        return Err(Ec2Error::new(Code::TagLimitExceeded, message));
    }
    Ok(())
}
