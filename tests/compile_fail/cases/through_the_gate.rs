//! An admitted read can be read, and an admitted token request gets a token.
use imdsd::clock::Moment;
use imdsd::guest::gate::{self, Admitted, ReadTerms, TokenAuthority, TokenTerms};
use imdsd::guest::{Precomputed, tree};

pub fn read(admitted: &Admitted<'_, ReadTerms>, precomputed: &Precomputed) {
    tree::read(admitted, "/latest/meta-data/instance-id", precomputed, Moment::now());
}

pub fn issue(tokens: &TokenAuthority, admitted: &Admitted<'_, TokenTerms>) {
    gate::issue(tokens, admitted, Moment::now(), [0; 6]);
}

fn main() {}
