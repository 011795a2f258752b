//! What the gate admitted is read, and what it admitted to a token is issued one.
use imdsd::clock::Moment;
use imdsd::guest::gate::{Admitted, Issuing, Reading};
use imdsd::guest::gate::token::TokenAuthority;
use imdsd::guest::{Precomputed, tree};

pub fn read(admitted: &Admitted<'_, Reading>, made: &Precomputed) {
    tree::read(admitted, "/latest/meta-data/instance-id", made, Moment::now());
}

pub fn issue(tokens: &TokenAuthority, admitted: &Admitted<'_, Issuing>) {
    tokens.issue(admitted, Moment::now(), [0; 6]);
}

fn main() {}
