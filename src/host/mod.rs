//! What the daemon does to the host it runs on, beside listening.

pub mod guest_rules;
