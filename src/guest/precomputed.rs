//! What the background precomputes and guests read.

use std::sync::Arc;

use crate::credentials::Cache;
use crate::identity::SignatureCache;

/// Signatures and credentials, made in the background. The guest plane only reads them.
#[derive(Clone, Default)]
pub struct Precomputed {
    /// Signatures of the identity documents.
    pub signatures: Arc<SignatureCache>,
    /// Role credentials from a source other than the document itself.
    pub credentials: Cache,
}
