//! The instance identity document: keys, certificate, signatures.
