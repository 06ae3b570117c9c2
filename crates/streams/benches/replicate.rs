//! Measured later.
fn main() {}
