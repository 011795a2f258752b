//! The arrangement of the source and the documentation, held by tests: which room imports which,
//! where metadata options are interpreted, that a type name means one thing, and that links in the
//! documentation lead somewhere.

mod docs;
mod imports;
mod names;
mod options;
mod source;
