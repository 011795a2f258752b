//! The texts of an instance.

/// A text that does not change. It takes 8 bytes where it is a field, and a copy of it shares the
/// letters. [`arcstr::literal!`] makes one of a constant, without an allocation.
pub type SharedText = arcstr::ArcStr;
