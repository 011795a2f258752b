//! Only the gate can make the proof of admission.
use imdsd::guest::gate::{Admitted, ReadTerms};
use imdsd::registry::Entry;

fn admit_anyway(entry: &Entry, terms: ReadTerms) -> Admitted<'_, ReadTerms> {
    Admitted { entry, terms }
}

fn main() {}
