//! The arrangement of the source and the documentation, checked by tests: which folder imports
//! which, where metadata options are interpreted, that a type name means one thing, and that links in
//! the documentation lead somewhere.

mod docs;
mod facts;
mod imports;
mod names;
mod options;
mod source;
