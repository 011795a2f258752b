//! The metadata options of an instance whose document names none, or only some of them: those of a
//! launch, from the account's defaults and the image.
//!
//! They are resolved once, when the instance is registered. A later change of the defaults or of the
//! image does not change an instance.

use super::account::Account;
use super::state::Registry;
use crate::instance::tags::keys_unfit_for_metadata;
use crate::instance::{HttpTokens, Instance, MetadataDefaults, MetadataOptions, Switch};

impl Registry {
    /// Sets the options that the document of a new instance does not name. `account` is `None` if
    /// its record cannot be read. An instance that was not read from a document keeps its options.
    pub(super) fn resolve_options(&self, instance: &mut Instance, account: Option<&Account>) {
        let Some(named) = instance.named_options.0.take() else {
            return;
        };
        // Set after the document was read, by the code that registers the instance.
        if instance.metadata_options != MetadataOptions::from(named) {
            return;
        }
        // The account may require tokens, so without its record they are required.
        let strictest = Account {
            metadata_defaults: MetadataDefaults {
                http_tokens: Some(HttpTokens::Required),
                ..MetadataDefaults::default()
            },
            ..Account::default()
        };
        let account = account.unwrap_or(&strictest);
        let image = account.imds_support(self.images(), &instance.image_id);
        let mut options = account.metadata_defaults.for_document(named, image);
        // The document was read as one whose tags are not shown, so its keys may be unfit for it.
        let shown = options.instance_metadata_tags;
        if named.instance_metadata_tags.is_none()
            && keys_unfit_for_metadata(&instance.tags, shown)
                .next()
                .is_some()
        {
            options.instance_metadata_tags = Switch::Disabled;
        }
        instance.metadata_options = options;
    }
}
