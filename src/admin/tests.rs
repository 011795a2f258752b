//! The operator's plane from outside: a request in, an answer out.
