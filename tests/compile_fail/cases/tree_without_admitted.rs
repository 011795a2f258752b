//! The tree takes nothing but an admitted read.
use imdsd::clock::Moment;
use imdsd::guest::{Made, tree};
use imdsd::registry::Entry;

fn read_anyway(entry: &Entry, made: &Made) {
    tree::read(entry, "/latest/meta-data/instance-id", made, Moment::now());
}

fn main() {}
