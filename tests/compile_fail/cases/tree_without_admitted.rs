//! The tree takes nothing but an admitted read.
use imdsd::clock::Moment;
use imdsd::guest::tree;
use imdsd::registry::Entry;

fn read_anyway(entry: &Entry) {
    tree::read(entry, "/latest/meta-data/instance-id", Moment::now());
}

fn main() {}
