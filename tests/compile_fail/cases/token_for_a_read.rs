//! An admitted read is not an admitted token request.
use imdsd::clock::Moment;
use imdsd::guest::gate::{self, Admitted, ReadTerms, TokenAuthority};

fn issue_anyway(tokens: &TokenAuthority, admitted: &Admitted<'_, ReadTerms>) {
    gate::issue(tokens, admitted, Moment::now(), [0; 6]);
}

fn main() {}
