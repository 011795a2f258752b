//! What must not compile: ways around the gate.

#[test]
fn a_way_around_the_gate_does_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_fail/cases/*.rs");
}
