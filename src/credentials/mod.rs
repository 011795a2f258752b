//! Role credentials.
